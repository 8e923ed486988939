package envoyrun

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/typed"
)

// orphanEnv makes the test binary start an Envoy, print its admin URL and wait to be killed.
const orphanEnv = "SESSIONGATE_TEST_ENVOY_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(orphanEnv) != "" {
		proxy, err := Start(context.Background(), nowhere())
		if err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_, _ = fmt.Fprintln(os.Stdout, proxy.AdminURL())
		select {}
	}
	os.Exit(m.Run())
}

func binary(t *testing.T) string {
	t.Helper()
	path, err := Binary(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// nowhere runs Envoy with nothing behind it, at an address that refuses connections.
func nowhere() Options {
	const dead = "127.0.0.1:1"
	return Options{
		Listeners: map[string]string{"ingress": "127.0.0.1:0"},
		Clusters:  map[string][]string{"sessiongate_authz": {dead}, "sessiongate_public": {dead}, "app": {dead}},
	}
}

func TestValidateSaysWhatIsWrong(t *testing.T) {
	broken := strings.Replace(string(envoy.Shipped()), "cluster: app", "cluster: nowhere", 1)
	if err := Validate(t.Context(), binary(t), []byte(broken)); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("got %v, want an error that names the cluster", err)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	proxy, err := Start(t.Context(), nowhere())
	if err != nil {
		t.Fatal(err)
	}
	if err := proxy.Stop(); err != nil {
		t.Error(err)
	}
	if err := proxy.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if err := syscall.Kill(proxy.process.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", proxy.process.PID(), err)
	}
	if _, err := os.Stat(proxy.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder %s is still there: %v", proxy.dir, err)
	}
}

func TestStopReportsAnEnvoyThatDied(t *testing.T) {
	proxy, err := Start(t.Context(), nowhere())
	if err != nil {
		t.Fatal(err)
	}
	if err := proxy.process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-proxy.Exited()
	if err := proxy.Stop(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v, want an error that says how it ended", err)
	}
}

func TestStartSaysWhyEnvoyRefused(t *testing.T) {
	options := nowhere()
	options.Edit = typed.Edit(func(bootstrap *bootstrapv3.Bootstrap) error {
		return typed.EditConnectionManager(bootstrap, "ingress", func(manager *hcmv3.HttpConnectionManager) error {
			manager.GetRouteConfig().GetVirtualHosts()[0].Domains = []string{"*", "*"}
			return nil
		})
	})
	if _, err := Start(t.Context(), options); err == nil || !strings.Contains(err.Error(), "wildcard domain") {
		t.Errorf("got %v, want Envoy's own complaint", err)
	}
}

func TestKilledParentLeavesNoEnvoy(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can tie a process to its parent")
	}
	binary(t)
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), orphanEnv+"=1")
	parent.Stderr = os.Stderr
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(strings.TrimSpace(line), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	// The connection ends with the process that holds its other end.
	if err := connection.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := connection.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Envoy outlived its parent (%v)", err)
	}
}

func TestSeveralEnvoysRunSideBySide(t *testing.T) {
	var urls [2]string
	for i := range urls {
		proxy, err := Start(t.Context(), nowhere())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := proxy.Stop(); err != nil {
				t.Error(err)
			}
		})
		urls[i] = proxy.URL("ingress")
	}
	for _, url := range urls {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := adminClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	if urls[0] == urls[1] {
		t.Errorf("both listen on %s", urls[0])
	}
}
