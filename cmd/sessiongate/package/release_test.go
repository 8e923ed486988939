// Package release_test installs the Debian package of a release in a clean Debian, and runs the
// service there under systemd. `make release` builds the package first.
package release_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/sessiongate/sessiongate/internal/cluster"
	"github.com/sessiongate/sessiongate/internal/process"
)

// suite is the release of Debian that the package is tried on: the oldest whose systemd knows %d.
const suite = "bookworm"

// exposed is what `systemd-analyze security` may say at most, of 10.
const exposed = 1.5

// A machine is a Debian that has booted.
type machine struct {
	t    *testing.T
	root string
	pid  int // of its systemd
}

func TestDebianPackage(t *testing.T) {
	dist := os.Getenv("SESSIONGATE_RELEASE")
	if dist == "" {
		t.Skip("make release runs it")
	}
	for _, tool := range []string{"debootstrap", "dpkg-deb", "unshare", "nsenter", "bash"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs %s: apt-get install debootstrap dpkg util-linux bash", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root, for debootstrap")
	}
	debs, err := filepath.Glob(filepath.Join(dist, "*_linux_"+runtime.GOARCH+".deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("%s has the packages %q, want one (%v)", dist, debs, err)
	}
	database, err := cluster.Start(t.Context(), cluster.Options{TCP: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(database.Stop)

	m := boot(t)
	before := m.files()
	m.put("/root/first.deb", read(t, debs[0]))
	m.do("apt-get install -y /root/first.deb")
	m.sees("systemctl is-enabled sessiongate.service || true", "disabled")
	m.sees("sessiongate completion bash | cmp - /usr/share/bash-completion/completions/sessiongate && echo same", "same")
	for _, unit := range []string{"sessiongate.service", "sessiongate-migrate.service"} {
		if out := m.do("systemd-analyze verify --man=no " + unit); out != "" {
			t.Errorf("%s: %s", unit, out)
		}
		m.isHardened(unit)
	}

	secrets := m.configure(database)
	m.do("systemctl start sessiongate-migrate.service")
	m.do("systemctl enable --now sessiongate.service")
	m.serves(secrets["backend"])
	m.isConfined()

	t.Log("upgrade")
	first := m.mainPID()
	changed := m.do("cat /etc/sessiongate/sessiongate.yaml")
	m.put("/root/second.deb", read(t, newer(t, debs[0])))
	m.do("apt-get install -y /root/second.deb")
	if m.mainPID() == first {
		t.Error("an upgrade leaves the former program running")
	}
	m.sees("journalctl --no-pager -u sessiongate-migrate.service | grep -c Finished", "2") // by hand, and before that program was replaced
	m.serves(secrets["backend"])
	if got := m.do("cat /etc/sessiongate/sessiongate.yaml"); got != changed {
		t.Errorf("an upgrade changes the configuration: %s", cmp.Diff(changed, got))
	}

	t.Log("purge")
	m.do("apt-get purge -y sessiongate")
	m.sees("pgrep -x sessiongate || true", "")
	m.sees("systemctl --failed --no-legend --plain", "")
	// The keys and the log are the operator's.
	left := []string{
		"/etc/sessiongate", "/etc/sessiongate/credentials", "/etc/sessiongate/credentials/backend", "/etc/sessiongate/credentials/database-password",
		"/etc/sessiongate/credentials/key", "/etc/sessiongate/credentials/owner-password", "/var/log/private/sessiongate", "/var/log/sessiongate",
	}
	var more []string
	for _, name := range m.files() {
		if _, was := slices.BinarySearch(before, name); !was {
			more = append(more, name)
		}
	}
	if diff := cmp.Diff(left, more); diff != "" {
		t.Errorf("left after a purge (-expected +found):\n%s", diff)
	}
	journal := m.do("journalctl --no-pager -u sessiongate.service -u sessiongate-migrate.service")
	for name, secret := range secrets {
		if strings.Contains(journal, secret) {
			t.Errorf("the journal has the secret %s", name)
		}
	}
}

// boot makes a clean Debian and boots it.
func boot(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: filepath.Join(t.TempDir(), "root")}
	t.Logf("installing Debian %s", suite)
	if out, err := exec.CommandContext(t.Context(), "debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv,procps", suite, m.root).CombinedOutput(); err != nil {
		t.Fatalf("debootstrap: %v\n%s", err, out)
	}
	name := strconv.Itoa(os.Getpid())
	c := exec.Command("testdata/boot", m.root, name)
	var complaints bytes.Buffer
	c.Stderr = &complaints
	c.WaitDelay = time.Minute
	p, err := process.Start(c, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		// Its cgroups are empty once all its processes have gone, a moment later.
		for range 100 {
			if left := cgroups(name); left == 0 {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("cgroups %s stay", name)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err = await(ctx, func() error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.PID(), p.PID()))
		if err != nil {
			return err
		}
		// Until unshare runs, a child may be any command of the script.
		m.pid, _ = strconv.Atoi(strings.TrimSpace(string(children)))
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", m.pid)); err != nil || string(name) != "systemd\n" {
			return fmt.Errorf("the first process is %q: %w", name, errors.Join(err, os.ErrNotExist))
		}
		out, err := m.try("systemctl is-system-running --wait")
		if err != nil {
			return fmt.Errorf("systemd: %w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		failed, _ := m.try("systemctl --failed --no-pager; journalctl --no-pager -n 50")
		t.Fatalf("Debian does not boot: %v\n%s\n%s", err, complaints.String(), failed)
	}
	t.Log("systemd runs")
	return m
}

// cgroups removes those of a machine, from the leaves on, and says how many it could not remove.
func cgroups(name string) (left int) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/sessiongate-release-" + name)
	more, _ := filepath.Glob("/sys/fs/cgroup/*/sessiongate-release-" + name)
	for _, root := range append(roots, more...) {
		var all []string
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		for _, path := range slices.Backward(all) {
			if err := syscall.Rmdir(path); err != nil {
				left++
			}
		}
	}
	return left
}

// await tries until it succeeds.
func await(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// try runs a line of shell inside.
func (m *machine) try(line string) (string, error) {
	c := exec.CommandContext(m.t.Context(), "nsenter", "-t", strconv.Itoa(m.pid), "-m", "-p", "-i", "-u", "-C", "-r", "-w", "/bin/sh", "-ec", line)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}
	out, err := c.CombinedOutput()
	return string(out), err
}

func (m *machine) do(line string) string {
	m.t.Helper()
	out, err := m.try(line)
	if err != nil {
		journal, _ := m.try("journalctl --no-pager -n 40")
		m.t.Fatalf("%s: %v\n%s\n%s", line, err, out, journal)
	}
	return out
}

func (m *machine) sees(line, want string) {
	m.t.Helper()
	if got := strings.TrimSpace(m.do(line)); got != want {
		m.t.Errorf("%s: %q, want %q", line, got, want)
	}
}

func (m *machine) put(name string, text []byte) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, name), text, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// files are the names of all files but those of the package managers, of this test and of systemd.
func (m *machine) files() []string {
	m.t.Helper()
	names := strings.Fields(m.do(`find / -xdev \( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/log/journal -o -path /var/log/apt ` +
		`-o -path /var/lib/systemd -o -path /var/log/dpkg.log -o -path /root -o -path /tmp -o -path /run \) -prune -o -print`))
	slices.Sort(names)
	return names
}

// isHardened prints how much of the machine a unit leaves open.
func (m *machine) isHardened(unit string) {
	m.t.Helper()
	out := m.do("systemd-analyze security --offline=true --no-pager " + unit + " | tail -1")
	found := regexp.MustCompile(`: ([\d.]+) `).FindStringSubmatch(out)
	if found == nil {
		m.t.Fatalf("systemd-analyze security: %q", out)
	}
	score, err := strconv.ParseFloat(found[1], 64)
	if err != nil || score > exposed {
		m.t.Errorf("%s is exposed by %s, want at most %v", unit, found[1], exposed)
	}
	m.t.Logf("systemd-analyze security: %s %s", unit, found[1])
}

// configure does what an operator does: it makes keys and passwords, and names the database.
func (m *machine) configure(database *cluster.Cluster) (secrets map[string]string) {
	m.t.Helper()
	admin, err := url.Parse(database.TCPURL("postgres"))
	if err != nil {
		m.t.Fatal(err)
	}
	connection, err := pgx.Connect(m.t.Context(), admin.String())
	if err != nil {
		m.t.Fatal(err)
	}
	defer connection.Close(m.t.Context())
	secrets = map[string]string{"password": "hush-of-the-database"}
	for _, line := range []string{"CREATE ROLE sessiongate LOGIN PASSWORD '" + secrets["password"] + "'", "CREATE DATABASE sessiongate OWNER sessiongate"} {
		if _, err := connection.Exec(m.t.Context(), line); err != nil {
			m.t.Fatal(err)
		}
	}
	m.do("cd /etc/sessiongate/credentials && sessiongate keys new $PWD/key $PWD/backend")
	for _, name := range []string{"database-password", "owner-password"} {
		m.put("/etc/sessiongate/credentials/"+name, []byte(secrets["password"]+"\n"))
	}
	for _, name := range []string{"key", "backend"} {
		secrets[name] = strings.TrimSpace(m.do("cat /etc/sessiongate/credentials/" + name))
	}
	at := "postgres://sessiongate@" + admin.Host + "/sessiongate?sslmode=disable"
	m.do(`sed -i 's#^  url: .*#  url: "` + at + `"#' /etc/sessiongate/*.yaml`)
	m.do(`sed -i 's/migrate: true/migrate: false/; s/127.0.0.1:900[123]/127.0.0.1:0/; s#^listen:#listen:\n  address_file: /run/sessiongate/addresses.json#' /etc/sessiongate/sessiongate.yaml`)
	return secrets
}

// serves: it is ready, and signs a user in.
func (m *machine) serves(key string) {
	m.t.Helper()
	var at struct{ Internal string }
	if err := json.Unmarshal([]byte(m.do("cat /run/sessiongate/addresses.json")), &at); err != nil || at.Internal == "" {
		m.t.Fatalf("addresses: %+v, %v", at, err)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	call := func(method, path, body string, want int) error {
		request, err := http.NewRequestWithContext(ctx, method, "http://"+at.Internal+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+key)
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if text, err := io.ReadAll(response.Body); response.StatusCode != want {
			return fmt.Errorf("%s: %s: %s %w", path, response.Status, text, errors.Join(err, os.ErrInvalid))
		}
		return nil
	}
	if err := await(ctx, func() error { return call(http.MethodGet, "/readyz", "", http.StatusOK) }); err != nil {
		m.t.Fatalf("not ready: %v\n%s", err, m.do("journalctl --no-pager -u sessiongate.service"))
	}
	if err := call(http.MethodPost, "/v1/sessions", `{"user_id":"ada"}`, http.StatusCreated); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) mainPID() string {
	m.t.Helper()
	return strings.TrimSpace(m.do("systemctl show --value -p MainPID sessiongate.service"))
}

// isConfined looks at the process itself: it has a user of its own, no rights, and a filter of
// system calls; it reads no file of the credentials.
func (m *machine) isConfined() {
	m.t.Helper()
	status := m.do("cat /proc/" + m.mainPID() + "/status")
	for _, want := range []string{`\nUid:\t6\d{4}\t`, `\nCapEff:\t0+\n`, `\nCapBnd:\t0+\n`, `\nNoNewPrivs:\t1\n`, `\nSeccomp:\t2\n`} {
		if !regexp.MustCompile(want).MatchString(status) {
			m.t.Errorf("the process's status does not match %q:\n%s", want, status)
		}
	}
	m.sees("systemctl show --value -p StatusErrno sessiongate.service", "0")
	if journal := m.do("journalctl --no-pager -u sessiongate.service"); !strings.Contains(journal, `"msg":"memory limit","bytes":966367`) {
		m.t.Errorf("the garbage collector does not know nine tenths of MemoryMax:\n%s", journal)
	}
}

// newer is the package with a greater version.
func newer(t *testing.T, deb string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "newer")
	for _, args := range [][]string{{"-R", deb, dir}, {"-b", dir, dir + ".deb"}} {
		if out, err := exec.CommandContext(t.Context(), "dpkg-deb", args...).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb %q: %v\n%s", args, err, out)
		}
		if args[0] == "-R" {
			control := filepath.Join(dir, "DEBIAN/control")
			text := regexp.MustCompile(`(?m)^Version: .*$`).ReplaceAll(read(t, control), []byte("Version: 99.0.0"))
			if err := os.WriteFile(control, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir + ".deb"
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
