package cluster_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/internal/cluster"
)

// asParent makes the test binary a process that starts a cluster, prints its
// address and waits to be killed.
const asParent = "CLUSTER_TEST_AS_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(asParent) == "" {
		os.Exit(m.Run())
	}
	c, err := cluster.Start(context.Background(), cluster.Options{})
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	if _, err := c.StartPooler(context.Background()); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println(c.URL("postgres"))
	select {}
}

func start(t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func query(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	var answer string
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

// folder is where a cluster keeps everything.
func folder(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("host")
}

func TestSettings(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{Settings: map[string]string{"application_name": "it's", "max_connections": "17"}})
	conn := connect(t, c.URL("postgres"))
	for sql, want := range map[string]string{
		"SHOW listen_addresses":   "",
		"SHOW fsync":              "off",
		"SHOW synchronous_commit": "on",
		"SHOW server_encoding":    "UTF8",
		"SHOW max_connections":    "17",
		"SELECT reset_val FROM pg_settings WHERE name = 'application_name'": "it's",
	} {
		if got := query(t, conn, sql); got != want {
			t.Errorf("%s = %q, want %q", sql, got, want)
		}
	}
	if c.TCPURL("postgres") != "" {
		t.Error("a cluster without TCP has a TCP address")
	}
	info, err := os.Stat(folder(t, c.URL("postgres")))
	if err != nil {
		t.Fatal(err)
	}
	if perm := info.Mode().Perm(); perm != 0o700 {
		t.Errorf("folder has mode %o: other users reach a socket that asks for no password", perm)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid == 0 {
		t.Error("folder belongs to root")
	}
}

func TestDurable(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{Durable: true})
	conn := connect(t, c.URL("postgres"))
	for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		if got := query(t, conn, "SHOW "+name); got != "on" {
			t.Errorf("%s = %s, want on", name, got)
		}
	}
}

func TestTCPNeedsThePassword(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{TCP: true})
	conn := connect(t, c.TCPURL("postgres"))
	if got := query(t, conn, "SELECT host(inet_server_addr())"); got != "127.0.0.1" {
		t.Errorf("connected to %s, want 127.0.0.1", got)
	}
	connect(t, c.URL("postgres"))

	u, err := url.Parse(c.TCPURL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(u.User.Username(), "guess")
	if conn, err := pgx.Connect(t.Context(), u.String()); err == nil {
		conn.Close(t.Context())
		t.Error("connected over TCP with a wrong password")
	}
}

func TestClustersSideBySide(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			c := start(t, cluster.Options{})
			if err := c.CreateDatabase(t.Context(), "mine", ""); err != nil {
				t.Fatal(err) // "exists already" in a cluster that is not ours alone
			}
			connect(t, c.URL("mine"))
		})
	}
}

func TestCreateDatabaseFromTemplate(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{})
	if err := c.CreateDatabase(t.Context(), `a "template"`, ""); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, c.URL(`a "template"`))
	if _, err := conn.Exec(t.Context(), "CREATE TABLE copied AS SELECT 'yes' AS answer"); err != nil {
		t.Fatal(err)
	}
	conn.Close(t.Context())
	if err := c.CreateDatabase(t.Context(), "copy", `a "template"`); err != nil {
		t.Fatal(err)
	}
	if got := query(t, connect(t, c.URL("copy")), "SELECT answer FROM copied"); got != "yes" {
		t.Errorf("the copy says %q, want yes", got)
	}
	if err := c.CreateDatabase(t.Context(), "copy", ""); err == nil {
		t.Error("created one database twice")
	}
	dump, err := exec.CommandContext(t.Context(), filepath.Join(c.BinDir(), "pg_dump"), c.URL("copy")).CombinedOutput()
	if err != nil || !strings.Contains(string(dump), "CREATE TABLE public.copied") {
		t.Errorf("pg_dump: %v: %s", err, dump)
	}
}

func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{TCP: true})
	addresses := []string{c.URL("postgres"), c.TCPURL("postgres")}
	conn := connect(t, addresses[0])
	if _, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 'yes' AS answer"); err != nil {
		t.Fatal(err)
	}

	c.Kill()
	c.Kill() // of a dead one: nothing
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a connection outlived the server")
	}
	for _, address := range addresses {
		if conn, err := pgx.Connect(t.Context(), address); err == nil {
			conn.Close(t.Context())
			t.Error("connected to a killed server")
		}
	}

	for range 2 { // the second one restarts a running server
		if err := c.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, address := range addresses {
			if got := query(t, connect(t, address), "SELECT answer FROM kept"); got != "yes" {
				t.Errorf("after the restart the table says %q, want yes", got)
			}
		}
	}
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{})
	dir := folder(t, c.URL("postgres"))
	conn := connect(t, c.URL("postgres"))
	c.Stop()
	c.Stop()
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a connection outlived the cluster")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	if left := processesIn(t, dir); len(left) > 0 {
		t.Errorf("processes left behind: %q", left)
	}
	if err := c.Restart(t.Context()); err == nil {
		t.Error("restarted a stopped cluster")
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", openDir(t))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx     context.Context
		options cluster.Options
		want    string // in the error
	}{
		"cancelled":     {cancelled, cluster.Options{}, context.Canceled.Error()},
		"wrong setting": {t.Context(), cluster.Options{Settings: map[string]string{"no_such_setting": "1"}}, "no_such_setting"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := cluster.Start(test.ctx, test.options)
			if err == nil {
				c.Stop()
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error does not say %q: %v", test.want, err)
			}
			if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "sgpg-*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestNotInstalled(t *testing.T) {
	t.Parallel()
	_, err := cluster.Start(t.Context(), cluster.Options{BinDir: t.TempDir()})
	if !errors.Is(err, cluster.ErrNotInstalled) {
		t.Fatalf("error %v, want ErrNotInstalled", err)
	}
	if !strings.Contains(err.Error(), "apt-get install postgresql") || strings.Contains(err.Error(), "\n") {
		t.Errorf("not one line that says what to do: %v", err)
	}
}

// The socket's path would be too long, and closed to the server's user.
func TestUnsuitableTemporaryDirectory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	start(t, cluster.Options{})

	long := filepath.Join(openDir(t), strings.Repeat("x", 100))
	if err := os.Mkdir(long, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	start(t, cluster.Options{})
}

func TestKilledParentLeavesNothing(t *testing.T) {
	// Before other tests run: a child forked meanwhile would inherit the open
	// file, and to execute it would fail with "text file busy".
	program := copyOfThisProgram(t)
	t.Parallel()
	users := map[string]*syscall.Credential{"same user": nil}
	if os.Geteuid() == 0 {
		users["unprivileged user"] = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	for name, credential := range users {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := exec.Command(program)
			parent.Dir = "/"
			parent.Env = append(os.Environ(), asParent+"=1")
			parent.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
			out, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			defer parent.Wait() // an error: it was killed
			defer parent.Process.Kill()
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			address := strings.TrimSpace(line)
			if !strings.HasPrefix(address, "postgres://") {
				t.Fatalf("the parent says: %s", line)
			}
			dir := folder(t, address)
			if len(processesIn(t, dir)) == 0 {
				t.Fatal("no process of the server found while it runs")
			}

			// A backend in the middle of a query must go, too.
			conn := connect(t, address)
			if err := parent.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), "SELECT pg_sleep(3600)"); err == nil {
				t.Error("slept for an hour")
			}
			await(t, "the end of the server's processes", func() bool { return len(processesIn(t, dir)) == 0 })
			await(t, "the end of the folder", func() bool {
				_, err := os.Stat(dir)
				return errors.Is(err, os.ErrNotExist)
			})
		})
	}
}

// await asks until something that sends no event is so.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	giveUp := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-giveUp:
			t.Fatal("waited in vain for " + what)
		}
	}
}

// processesIn lists the processes whose working directory is or was in a folder;
// that of each of Postgres's is its data.
func processesIn(t *testing.T, dir string) []string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir) {
			found = append(found, link+" -> "+cwd)
		}
	}
	return found
}

// openDir is a temporary directory that every user may enter and write to.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sgt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyOfThisProgram is where another user can run it; go test builds into a
// closed folder.
func copyOfThisProgram(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	path := filepath.Join(openDir(t), "parent")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
