package envoy_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// routesAreKnown is to be true as soon as the configuration has the table of routes that istio/config.yaml uses.
const routesAreKnown = true

// effective is what `sessiongate config` prints for the ConfigMap of a manifest: the settings in effect. Where the program refuses the file, settings is nil
// and said is what the program said.
func effective(t *testing.T, manifest string) (settings object, said string) {
	t.Helper()
	return effectiveText(t, at(parse(t, manifestFiles(t)[manifest]), "data", "sessiongate.yaml").(string))
}

func effectiveText(t *testing.T, text string) (settings object, said string) {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sessiongate.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(file, "--config", path, "config")
	command.Env = []string{"GORACE=atexit_sleep_ms=0"}
	output, err := command.CombinedOutput()
	if err != nil {
		return nil, string(output)
	}
	return parse(t, string(output)), ""
}

// TestKubernetesConfiguration gives the program the configuration of the manifests, and holds the Deployment against what is in effect.
func TestKubernetesConfiguration(t *testing.T) {
	t.Parallel()
	settings, said := effective(t, "kubernetes/config.yaml")
	if settings == nil {
		t.Fatal(said)
	}
	files := manifestFiles(t)
	var pod object
	err := eachDocument([]byte(files["kubernetes/deployment.yaml"]), func(document map[string]any) error {
		if document["kind"] == "Deployment" {
			pod = at(document, "spec", "template", "spec").(object)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	duration := func(path ...any) time.Duration {
		t.Helper()
		d, err := time.ParseDuration(at(settings, path...).(string))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	stop := duration("shutdown", "drain_delay") + duration("shutdown", "timeout")
	if seconds := pod["terminationGracePeriodSeconds"].(int); float64(seconds) < (stop + 5*time.Second).Seconds() {
		t.Errorf("Kubernetes kills after %d s, and stopping may take %s", seconds, stop)
	}
	container := at(pod, "containers", 0).(object)
	ports := map[any]int{}
	for _, port := range container["ports"].([]any) {
		ports[at(port, "name")] = at(port, "containerPort").(int)
	}
	for name, want := range map[string]string{"authz": "0.0.0.0:9001", "public": "0.0.0.0:9002", "internal": "0.0.0.0:9003"} {
		if got := at(settings, "listen", name); got != want || !strings.HasSuffix(want, ":"+jsonOf(t, ports[name])) {
			t.Errorf("%s listens on %v, and its port is %d", name, got, ports[name])
		}
	}
	// Each file that the configuration names is below a secret that is mounted.
	mounts := []string{}
	for _, mount := range container["volumeMounts"].([]any) {
		if at(mount, "readOnly") != true {
			t.Errorf("%v is mounted writable", at(mount, "name"))
		}
		mounts = append(mounts, at(mount, "mountPath").(string)+"/")
	}
	text := at(parse(t, files["kubernetes/config.yaml"]), "data", "sessiongate.yaml").(string)
	for _, path := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \n[]:=&", r) }) {
		if !strings.HasPrefix(path, "/secrets/") {
			continue
		}
		below := false
		for _, mount := range mounts {
			below = below || strings.HasPrefix(path, mount)
		}
		if !below {
			t.Errorf("%s is mounted nowhere", path)
		}
	}
	// The same configuration, and the table of routes.
	if !routesAreKnown {
		if settings, said := effective(t, "istio/config.yaml"); settings != nil || !strings.Contains(said, "routes") {
			t.Errorf("the program knows routes by now: set routesAreKnown\n%s", said)
		}
		return
	}
	withRoutes, said := effective(t, "istio/config.yaml")
	if withRoutes == nil {
		t.Fatal(said)
	}
	if withRoutes["routes"] == nil {
		t.Error("the table of routes is not in effect")
	}
	settings["routes"], withRoutes["routes"] = nil, nil
	if got, want := jsonOf(t, withRoutes), jsonOf(t, settings); got != want {
		t.Errorf("istio/config.yaml differs in more than routes:\n%s\n%s", got, want)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestKubernetesPods holds every pod of the manifests to Kubernetes' strictest standard, as the namespace enforces it, and to no mutable or
// readable secret.
func TestKubernetesPods(t *testing.T) {
	t.Parallel()
	files := manifestFiles(t)
	for _, file := range []string{"kubernetes/deployment.yaml", "kubernetes/migrate.yaml"} {
		err := eachDocument([]byte(files[file]), func(document map[string]any) error {
			if document["kind"] == "PodDisruptionBudget" {
				return nil
			}
			isRestricted(t, file, document)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// isRestricted holds the pods of a Deployment or a Job to it.
func isRestricted(t *testing.T, file string, document object) {
	t.Helper()
	pod := at(document, "spec", "template", "spec").(object)
	container := at(pod, "containers", 0).(object)
	for what, ok := range map[string]bool{
		"does not run as root":       at(pod, "securityContext", "runAsNonRoot") == true,
		"has a seccomp profile":      at(pod, "securityContext", "seccompProfile", "type") == "RuntimeDefault",
		"cannot gain privileges":     at(container, "securityContext", "allowPrivilegeEscalation") == false,
		"has no capabilities":        jsonOf(t, at(container, "securityContext", "capabilities", "drop")) == `["ALL"]`,
		"cannot write its files":     at(container, "securityContext", "readOnlyRootFilesystem") == true,
		"holds no Kubernetes token":  pod["automountServiceAccountToken"] == false,
		"has a memory limit":         at(container, "resources", "limits", "memory") != nil,
		"has no CPU limit":           at(container, "resources", "limits").(object)["cpu"] == nil,
		"has no secret in variables": !strings.Contains(jsonOf(t, container["env"]), "secretKeyRef"),
	} {
		if !ok {
			t.Errorf("%v of %s: not so: %s", document["kind"], file, what)
		}
	}
	for _, volume := range pod["volumes"].([]any) {
		if secret, ok := volume.(object)["secret"].(object); ok && secret["defaultMode"] != 0o440 {
			t.Errorf("%v of %s: %v can be read by everyone", document["kind"], file, secret["secretName"])
		}
		for kind := range volume.(object) {
			if !slices.Contains([]string{"name", "configMap", "secret", "emptyDir"}, kind) {
				t.Errorf("%v of %s has a volume of the kind %s", document["kind"], file, kind)
			}
		}
	}
}

// TestOnlyEnvoyReachesTheCheck reads the NetworkPolicy: each port has its own callers, and none is open to all.
func TestOnlyEnvoyReachesTheCheck(t *testing.T) {
	t.Parallel()
	callers := map[any][]string{}
	err := eachDocument([]byte(manifestFiles(t)["kubernetes/network.yaml"]), func(policy map[string]any) error {
		if jsonOf(t, at(policy, "spec", "policyTypes")) != `["Ingress","Egress"]` {
			t.Errorf("%v leaves a direction open", at(policy, "metadata", "name"))
		}
		rules, _ := at(policy, "spec").(object)["ingress"].([]any)
		for _, rule := range rules {
			for _, from := range at(rule, "from").([]any) {
				namespace, ok := from.(object)["namespaceSelector"]
				if !ok || from.(object)["podSelector"] == nil {
					t.Errorf("a caller is not a pod of a namespace: %v", from)
					continue
				}
				for _, port := range at(rule, "ports").([]any) {
					callers[at(port, "port")] = append(callers[at(port, "port")], at(namespace, "matchLabels", "kubernetes.io/metadata.name").(string))
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := jsonOf(t, []any{callers["authz"], callers["public"], callers["internal"], len(callers)}), `[["ingress"],["ingress"],["app","monitoring"],3]`; got != want {
		t.Errorf("callers are %s, want %s", got, want)
	}
}
