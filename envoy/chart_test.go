package envoy_test

// The Helm chart, as Helm renders it. `make chart` records a render for each set of values in envoy/guides/helm/testdata; here they are judged,
// without Helm: against the manifests of the guides, the schemas of each Kubernetes, and sessiongate itself.

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiongate/sessiongate/authz"
)

const (
	chartFolder  = "guides/helm"
	chartRecords = "testdata/chart"
	recordChart  = "run make chart RECORD=1, and look at the difference"
)

// rendered are the recorded renders, by the name of their values.
func rendered(t *testing.T) map[string][]object {
	t.Helper()
	files, err := filepath.Glob(chartRecords + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	renders := map[string][]object{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		err = eachDocument(text, func(o object) error {
			renders[name] = append(renders[name], o)
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	if len(renders) < 12 {
		t.Fatalf("only %d renders", len(renders))
	}
	return renders
}

// TestChartRecord: the renders that the other tests judge are of the chart and the values as they are now.
func TestChartRecord(t *testing.T) {
	t.Parallel()
	var lines []string
	for _, path := range []string{"go.mod", "sessiongate", "testdata"} {
		err := fs.WalkDir(os.DirFS(chartFolder), path, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(filepath.Join(chartFolder, name))
			lines = append(lines, fmt.Sprintf("%x  %s\n", sha256.Sum256(text), name))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	recorded, err := os.ReadFile(chartRecords + "/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Collect(strings.Lines(string(recorded))), lines); diff != "" {
		t.Errorf("the chart has changed since its renders were recorded (-): %s\n%s", recordChart, diff)
	}
	// A render for each set of values, and no other.
	sets, err := filepath.Glob(chartFolder + "/testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i, set := range sets {
		sets[i] = strings.TrimSuffix(filepath.Base(set), ".yaml")
	}
	slices.Sort(sets)
	if diff := cmp.Diff(sets, slices.Sorted(maps.Keys(rendered(t)))); diff != "" {
		t.Errorf("sets of values (-) and renders (+): %s\n%s", recordChart, diff)
	}
}

// TestChartCopies: the chart cannot reach out of its folder, so it repeats files. They stay what they repeat.
func TestChartCopies(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"alerts.yaml", "dashboard.json"} {
		want, err := os.ReadFile(filepath.Join("../docs/monitoring", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(chartFolder, "sessiongate/files", name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("the chart's %s is not that of docs/monitoring: %s", name, recordChart)
		}
	}
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(file, "config", "schema").Output()
	if err != nil {
		t.Fatal(err)
	}
	var want, values object
	if err := json.Unmarshal(output, &want); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(chartFolder + "/sessiongate/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	// Settings that hold a secret are no values: Helm keeps those, and prints them.
	delete(want, "$schema")
	for _, secret := range [][]string{{"key"}, {"key_previous"}, {"api", "keys"}} {
		properties := want["properties"].(object)
		if len(secret) == 2 {
			properties = at(properties, secret[0], "properties").(object)
		}
		delete(properties, secret[len(secret)-1])
	}
	if diff := cmp.Diff(at(values, "$defs", "sessiongate"), any(want)); diff != "" {
		t.Errorf("the settings that the chart knows (-) and sessiongate's (+): %s\n%s", recordChart, diff)
	}
}

// TestChartSecrets: each setting that is a secret to sessiongate is none of the chart's, or is named here with the reason.
func TestChartSecrets(t *testing.T) {
	t.Parallel()
	known := map[string]string{
		"database.url":   "the chart refuses one with a password",
		"api.key_hashes": "the hash of a random secret opens nothing",
		"key":            "left out", "key_previous": "left out", "api.keys": "left out",
	}
	source, err := os.ReadFile("../cmd/sessiongate/settings.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`Key: "([^"]+)",(?: [^\n]*,)? Secret: true`).FindAllStringSubmatch(string(source), -1)
	if len(found) < len(known) || strings.Count(string(source), "Secret: true") != len(found) {
		t.Fatalf("found %d secrets among the settings", len(found))
	}
	for _, setting := range found {
		if known[setting[1]] == "" {
			t.Errorf("%s is a secret: leave it out of the chart's schema (schemaOfValues in envoy/guides/helm), or refuse it in _refuse.tpl, and name it here", setting[1])
		}
	}
}

// TestChartVersion: a release of sessiongate is one of its chart.
func TestChartVersion(t *testing.T) {
	t.Parallel()
	changelog, err := os.ReadFile("../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+\S*)\]`).FindSubmatch(changelog)
	if found == nil {
		t.Fatal("CHANGELOG.md has no release")
	}
	newest := string(found[1])
	text, err := os.ReadFile(chartFolder + "/sessiongate/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	chart := parse(t, string(text))
	if chart["appVersion"] != newest || chart["version"] != newest {
		t.Errorf("the chart is %v of version %v, and the newest release is %s", chart["version"], chart["appVersion"], newest)
	}
	if want := ">=" + supportedKubernetes[0] + ".0-0"; chart["kubeVersion"] != want {
		t.Errorf("the chart is for Kubernetes %v, want %s", chart["kubeVersion"], want)
	}
	guide, err := os.ReadFile("../docs/guides/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile(chartFolder + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	helm := regexp.MustCompile(`helm\.sh/helm/v3 v(\S+)`).FindSubmatch(module)
	if helm == nil {
		t.Fatal("go.mod has no helm")
	}
	for _, said := range []string{fmt.Sprintf("Kubernetes %s to %s", supportedKubernetes[0], newestKubernetes), "Helm " + string(helm[1])} {
		if !strings.Contains(strings.Join(strings.Fields(string(guide)), " "), said) {
			t.Errorf("docs/guides/kubernetes.md does not say %s", said)
		}
	}
}

func identity(o object) string {
	meta := o["metadata"].(object)
	namespace := meta["namespace"]
	if namespace == nil {
		namespace = ""
	}
	return fmt.Sprintf("%v %v/%v", o["kind"], namespace, meta["name"])
}

// asWritten are the objects of a folder of guides, by their kind, namespace and name.
func asWritten(t *testing.T, folder string) map[string]object {
	t.Helper()
	all := map[string]object{}
	eachManifest(t, func(file string, manifest object) {
		if filepath.Dir(file) == folder && !notManifest(file) {
			all[identity(manifest)] = manifest
		}
	})
	if len(all) == 0 {
		t.Fatalf("%s has no manifests", folder)
	}
	return all
}

// bare takes away what only Helm needs, and reads the configuration, whose comments and order say nothing.
func bare(t *testing.T, o object) object {
	t.Helper()
	if annotations, ok := at(o, "metadata", "annotations").(object); ok {
		for _, name := range []string{"helm.sh/hook", "helm.sh/hook-weight", "helm.sh/hook-delete-policy"} {
			delete(annotations, name)
		}
		if len(annotations) == 0 {
			delete(o["metadata"].(object), "annotations")
		}
	}
	switch o["kind"] {
	case "Deployment":
		// The manifests have no such sum: one that no tool computes goes stale with the reader's first change.
		template := at(o, "spec", "template", "metadata").(object)
		if annotations, ok := template["annotations"].(object); ok {
			delete(annotations, "checksum/config")
			if len(annotations) == 0 {
				delete(template, "annotations")
			}
		}
	case "ConfigMap":
		data := o["data"].(object)
		data["sessiongate.yaml"] = parse(t, data["sessiongate.yaml"].(string))
	}
	return o
}

// TestChartIsTheGuide: as it comes, the chart is the manifests of the guide, object by object.
func TestChartIsTheGuide(t *testing.T) {
	t.Parallel()
	want, got := map[string]object{}, map[string]object{}
	for name, o := range asWritten(t, "kubernetes") {
		want[name] = bare(t, o)
	}
	// The namespace is there before the chart, since the Secrets are. Removing a release would remove both.
	delete(want, "Namespace /sessiongate")
	for _, o := range rendered(t)["default"] {
		name := identity(o)
		if _, twice := got[name]; twice {
			t.Errorf("%s comes twice", name)
		}
		got[name] = bare(t, o)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("envoy/guides/kubernetes (-) and the chart (+):\n%s", diff)
	}
}

// TestChartHooks: the Job runs before anything changes. What it needs is there by then: its NetworkPolicy comes before it, and it has no account
// that the release makes.
func TestChartHooks(t *testing.T) {
	t.Parallel()
	for name, objects := range rendered(t) {
		hooks := map[string]object{}
		for _, o := range objects {
			annotations, _ := at(o, "metadata").(object)["annotations"].(object)
			if annotations["helm.sh/hook"] == nil {
				continue
			}
			if annotations["helm.sh/hook"] != "pre-install,pre-upgrade" {
				t.Errorf("%s: %s runs at %v", name, identity(o), annotations["helm.sh/hook"])
			}
			hooks[o["kind"].(string)] = annotations
			if o["kind"] == "Job" && at(o, "spec", "template", "spec").(object)["serviceAccountName"] != nil {
				t.Errorf("%s: the Job has an account, which the first install has not made yet", name)
			}
		}
		if name == "nothing" {
			if len(hooks) != 0 {
				t.Errorf("nothing: hooks %v", hooks)
			}
			continue
		}
		if len(hooks) != 2 || hooks["Job"] == nil || hooks["NetworkPolicy"] == nil {
			t.Errorf("%s: hooks %v", name, hooks)
			continue
		}
		// Kept after its end, for its log; a name that is taken would fail the next upgrade.
		if hooks["Job"]["helm.sh/hook-delete-policy"] != "before-hook-creation" || hooks["Job"]["helm.sh/hook-weight"] != nil {
			t.Errorf("%s: the Job %v", name, hooks["Job"])
		}
		if weight, err := strconv.Atoi(hooks["NetworkPolicy"]["helm.sh/hook-weight"].(string)); err != nil || weight >= 0 {
			t.Errorf("%s: the NetworkPolicy does not come before the Job: %v", name, hooks["NetworkPolicy"])
		}
	}
}

// TestChartRenders holds every render to what a cluster asks of it: the schemas of each version, the strictest standard for pods, references that
// lead to something, and a configuration that sessiongate takes.
func TestChartRenders(t *testing.T) {
	t.Parallel()
	s, err := published()
	if err != nil {
		t.Fatal(err)
	}
	for name, objects := range rendered(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := map[string]bool{}
			for _, o := range objects {
				if seen[identity(o)] {
					t.Errorf("%s comes twice", identity(o))
				}
				seen[identity(o)] = true
				if at(o, "metadata").(object)["namespace"] == nil {
					t.Errorf("%s has no namespace", identity(o))
				}
				for _, version := range supportedKubernetes {
					if err := s.checkFor(version, o); err != nil {
						t.Errorf("%s, Kubernetes %s: %v", identity(o), version, err)
					}
				}
			}
			holdsTogether(t, objects)
		})
	}
}

// holdsTogether follows what one object says of another.
func holdsTogether(t *testing.T, objects []object) {
	t.Helper()
	byKind := map[string][]object{}
	for _, o := range objects {
		byKind[o["kind"].(string)] = append(byKind[o["kind"].(string)], o)
	}
	if len(byKind["Deployment"]) != 1 {
		t.Fatalf("%d Deployments", len(byKind["Deployment"]))
	}
	deployment := byKind["Deployment"][0]
	pods := []object{deployment}
	pods = append(pods, byKind["Job"]...)
	labels := []object{}
	for _, o := range pods {
		isRestricted(t, identity(o), o)
		labels = append(labels, at(o, "spec", "template", "metadata", "labels").(object))
		volumes := map[any]bool{}
		for _, volume := range at(o, "spec", "template", "spec", "volumes").([]any) {
			volumes[volume.(object)["name"]] = true
		}
		for _, mount := range at(o, "spec", "template", "spec", "containers", 0, "volumeMounts").([]any) {
			if !volumes[mount.(object)["name"]] || mount.(object)["readOnly"] != true {
				t.Errorf("%s: mount %v, volumes %v", identity(o), mount, volumes)
			}
		}
	}
	selects := func(o object, selector any) {
		t.Helper()
		for _, of := range labels {
			all := true
			for name, value := range selector.(object) {
				all = all && of[name] == value
			}
			if all {
				return
			}
		}
		t.Errorf("%s selects %v, and no pod has that", identity(o), selector)
	}
	if of, ok := deployment["spec"].(object)["replicas"]; ok == (len(byKind["HorizontalPodAutoscaler"]) > 0) {
		t.Errorf("%v replicas, beside %d autoscalers", of, len(byKind["HorizontalPodAutoscaler"])) // each upgrade would undo what the autoscaler did
	}
	for _, o := range byKind["HorizontalPodAutoscaler"] {
		if at(o, "spec", "scaleTargetRef", "name") != at(deployment, "metadata", "name") {
			t.Errorf("%s scales another: %v", identity(o), at(o, "spec", "scaleTargetRef"))
		}
	}
	pod := at(deployment, "spec", "template", "spec").(object)
	container := at(pod, "containers", 0).(object)
	ports := map[any]string{}
	for _, port := range container["ports"].([]any) {
		ports[at(port, "name")] = strconv.Itoa(at(port, "containerPort").(int))
	}
	selects(deployment, at(deployment, "spec", "selector", "matchLabels"))
	for _, o := range byKind["PodDisruptionBudget"] {
		selects(o, at(o, "spec", "selector", "matchLabels"))
	}
	for _, o := range byKind["Service"] {
		selects(o, at(o, "spec", "selector"))
		for _, port := range at(o, "spec", "ports").([]any) {
			if ports[at(port, "targetPort")] == "" {
				t.Errorf("%s: no port is called %v", identity(o), at(port, "targetPort"))
			}
		}
	}
	for _, o := range byKind["NetworkPolicy"] {
		selects(o, at(o, "spec", "podSelector", "matchLabels"))
		if jsonOf(t, at(o, "spec", "policyTypes")) != `["Ingress","Egress"]` {
			t.Errorf("%s leaves a direction open", identity(o))
		}
	}
	for _, o := range byKind["PodMonitor"] {
		selects(o, at(o, "spec", "selector", "matchLabels"))
		if name := at(o, "spec", "podMetricsEndpoints", 0, "port"); ports[name] == "" {
			t.Errorf("%s: no port is called %v", identity(o), name)
		}
	}
	for _, kind := range []string{"PeerAuthentication", "AuthorizationPolicy"} {
		for _, o := range byKind[kind] {
			if at(o, "metadata", "namespace") == at(deployment, "metadata", "namespace") && at(o, "spec").(object)["action"] != "CUSTOM" {
				selects(o, at(o, "spec", "selector", "matchLabels"))
			}
		}
	}
	if account := pod["serviceAccountName"]; account != "default" && (len(byKind["ServiceAccount"]) != 1 || at(byKind["ServiceAccount"][0], "metadata", "name") != account) {
		t.Errorf("the pods' account is %v, and the chart makes %d", account, len(byKind["ServiceAccount"]))
	}

	// The configuration, and what the Deployment repeats of it.
	var text string
	for _, o := range byKind["ConfigMap"] {
		if at(o, "metadata", "name") == at(pod, "volumes", 0, "configMap", "name") {
			text = at(o, "data", "sessiongate.yaml").(string)
		}
	}
	settings, said := effectiveText(t, text)
	if settings == nil {
		t.Fatalf("sessiongate refuses the configuration: %s\n%s", said, text)
	}
	stop := 5 * time.Second
	for _, name := range []string{"drain_delay", "timeout"} {
		d, err := time.ParseDuration(at(settings, "shutdown", name).(string))
		if err != nil {
			t.Fatal(err)
		}
		stop += d
	}
	if seconds := pod["terminationGracePeriodSeconds"].(int); float64(seconds) != stop.Seconds() {
		t.Errorf("Kubernetes kills after %d s, want %s", seconds, stop)
	}
	for _, name := range []string{"authz", "public", "internal"} {
		if address := at(settings, "listen", name).(string); !strings.HasSuffix(address, ":"+ports[name]) {
			t.Errorf("%s listens on %s, and its port is %s", name, address, ports[name])
		}
	}
	scheme, secure := at(container, "readinessProbe", "httpGet").(object)["scheme"], at(settings, "tls", "internal_cert_file") != ""
	if (scheme == "HTTPS") != secure {
		t.Errorf("probes speak %v, and the listener TLS: %t", scheme, secure)
	}
	auth := at(settings, "paths", "auth").(string)
	attempt, err := time.ParseDuration(at(settings, "session", "refresh_attempt_max").(string))
	if err != nil {
		t.Fatal(err)
	}
	sameTime := func(o object, said any) {
		t.Helper()
		if d, err := time.ParseDuration(said.(string)); err != nil || 2*d != attempt {
			t.Errorf("%s: %v for a refresh, and D is %s", identity(o), said, attempt)
		}
	}
	for _, o := range byKind["HTTPRoute"] {
		if path := at(o, "spec", "rules", 0, "matches", 0, "path", "value"); path != auth {
			t.Errorf("%s: the auth path is %v, want %s", identity(o), path, auth)
		}
		sameTime(o, at(o, "spec", "rules", 0, "timeouts", "request"))
	}
	for _, o := range byKind["SecurityPolicy"] {
		// As Envoy sends it: a text that sessiongate does not understand denies every request.
		extensions := map[string]string{}
		if check, ok := at(o, "spec").(object)["extAuth"]; ok {
			for _, pair := range at(check, "contextExtensions").([]any) {
				extensions[at(pair, "name").(string)] = at(pair, "value").(string)
			}
			if _, err := (authz.Policy{LoginURL: "/login"}).With(extensions); err != nil {
				t.Errorf("%s: %v", identity(o), err)
			}
		}
	}
	for _, o := range byKind["VirtualService"] {
		if path := jsonOf(t, at(o, "spec", "http", 0, "match")); path != fmt.Sprintf(`[{"uri":{"exact":%q}},{"uri":{"prefix":"%s/"}}]`, auth, auth) {
			t.Errorf("%s: the auth path is %s, want %s", identity(o), path, auth)
		}
		sameTime(o, at(o, "spec", "http", 0, "timeout"))
	}
	for _, o := range byKind["EnvoyFilter"] {
		if want := fmt.Sprintf(`"regex":"%s([/?].*)?"`, strings.ReplaceAll(regexp.QuoteMeta(auth), `\`, `\\`)); !strings.Contains(jsonOf(t, o), want) {
			t.Errorf("%s does not name the auth path %s", identity(o), want)
		}
	}
}

// TestChartSelectsTheGateway: the gateway's labels are those of the values and no more. Helm adds a map of the values to a default, and a policy that
// asks for a label too many selects no pod: no request is checked.
func TestChartSelectsTheGateway(t *testing.T) {
	t.Parallel()
	found := 0
	for _, o := range rendered(t)["istio-least"] {
		if spec, ok := o["spec"].(object); ok && spec["action"] == "CUSTOM" {
			found++
			if labels := jsonOf(t, at(spec, "selector", "matchLabels")); labels != `{"app":"gateway","tier":"edge"}` {
				t.Errorf("the check is asked for by pods with %s", labels)
			}
		}
	}
	if found != 1 {
		t.Errorf("%d policies ask for the check", found)
	}
}

// TestChartMonitoring: what Prometheus and Grafana get of the chart is docs/monitoring, and Helm read none of its braces.
func TestChartMonitoring(t *testing.T) {
	t.Parallel()
	alerts, err := os.ReadFile("../docs/monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dashboard, err := os.ReadFile("../docs/monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, o := range rendered(t)["monitoring"] {
		switch identity(o) {
		case "PrometheusRule sessiongate/sessiongate":
			found++
			if diff := cmp.Diff(any(parse(t, string(alerts))), o["spec"]); diff != "" {
				t.Errorf("docs/monitoring/alerts.yaml (-) and the chart's rules (+):\n%s", diff)
			}
		case "ConfigMap sessiongate/sessiongate-dashboard":
			found++
			if diff := cmp.Diff(parse(t, string(dashboard)), parse(t, at(o, "data", "sessiongate.json").(string))); diff != "" {
				t.Errorf("docs/monitoring/dashboard.json (-) and the chart's (+):\n%s", diff)
			}
		case "PodMonitor sessiongate/sessiongate":
			found++
			// The rules and the dashboard ask for this job, whatever the release is called.
			if job := jsonOf(t, at(o, "spec", "podMetricsEndpoints", 0, "relabelings")); job != `[{"replacement":"sessiongate","targetLabel":"job"}]` {
				t.Errorf("the job is %s", job)
			}
		}
	}
	if found != 3 {
		t.Errorf("found %d of 3 objects", found)
	}
}

// TestChartLabels: labels of values are on every object, and on every pod.
func TestChartLabels(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"everything", "existing-names"} {
		for _, o := range rendered(t)[name] {
			labels, _ := at(o, "metadata").(object)["labels"].(object)
			if labels["team"] != "identity" {
				t.Errorf("%s: %s has the labels %v", name, identity(o), labels)
			}
			if spec, ok := o["spec"].(object); ok && spec["template"] != nil && at(spec, "template", "metadata", "labels", "team") != "identity" {
				t.Errorf("%s: the pods of %s have none", name, identity(o))
			}
		}
	}
}

// TestChartOfControlPlanes: what the chart says to Envoy Gateway and to Istio is what their guides say, for the objects that are not the reader's own.
func TestChartOfControlPlanes(t *testing.T) {
	t.Parallel()
	renders := rendered(t)
	for _, plane := range []struct {
		render, folder string
		names          map[string]string // in the guide → of the chart
		readers        []string          // what stays the reader's, in the guide
		differs        func(guide, chart map[string]object)
	}{
		{
			render: "gateway-api", folder: "envoy-gateway",
			names: map[string]string{
				"ClientTrafficPolicy ingress/app":      "ClientTrafficPolicy ingress/sessiongate",
				"SecurityPolicy ingress/app":           "SecurityPolicy ingress/sessiongate",
				"SecurityPolicy ingress/api":           "SecurityPolicy ingress/sessiongate-api",
				"SecurityPolicy ingress/unchecked":     "SecurityPolicy ingress/sessiongate-unchecked",
				"ReferenceGrant sessiongate/ingress":   "ReferenceGrant sessiongate/sessiongate",
				"HTTPRoute ingress/auth":               "HTTPRoute ingress/sessiongate-auth",
				"BackendTrafficPolicy ingress/auth":    "BackendTrafficPolicy ingress/sessiongate-auth",
				"EnvoyPatchPolicy ingress/sessiongate": "EnvoyPatchPolicy ingress/sessiongate",
			},
			readers: []string{"GatewayClass /envoy", "Gateway ingress/app", "HTTPRoute ingress/login", "HTTPRoute ingress/app", "BackendTrafficPolicy ingress/app"},
			differs: func(guide, chart map[string]object) {
				// Policies of the auth route name it.
				for _, o := range chart {
					spec, _ := o["spec"].(object)
					targets, _ := spec["targetRefs"].([]any)
					for _, target := range targets {
						if target.(object)["name"] == "sessiongate-auth" {
							target.(object)["name"] = "auth"
						}
					}
				}
				// In the order of their names, which says nothing.
				for _, objects := range []map[string]object{guide, chart} {
					for _, o := range objects {
						leaves(o, func(name string, value any) {
							if name == "contextExtensions" {
								slices.SortFunc(value.([]any), func(a, b any) int {
									return strings.Compare(at(a, "name").(string), at(b, "name").(string))
								})
							}
						})
					}
				}
			},
		},
		{
			render: "istio", folder: "istio",
			names: map[string]string{
				"ConfigMap sessiongate/sessiongate":             "ConfigMap sessiongate/sessiongate",
				"AuthorizationPolicy istio-ingress/sessiongate": "AuthorizationPolicy istio-ingress/sessiongate",
				"AuthorizationPolicy sessiongate/sessiongate":   "AuthorizationPolicy sessiongate/sessiongate",
				"PeerAuthentication sessiongate/sessiongate":    "PeerAuthentication sessiongate/sessiongate",
				"VirtualService istio-ingress/app":              "VirtualService istio-ingress/sessiongate",
				"EnvoyFilter istio-ingress/sessiongate":         "EnvoyFilter istio-ingress/sessiongate",
			},
			readers: []string{"DestinationRule istio-ingress/app"},
			differs: func(guide, chart map[string]object) {
				// The routes behind the check are the reader's.
				routes := guide["VirtualService istio-ingress/app"]["spec"].(object)
				routes["http"] = routes["http"].([]any)[:2]
				// The guide's is that of its namespace. A chart does not know what else is there.
				delete(chart["PeerAuthentication sessiongate/sessiongate"]["spec"].(object), "selector")
			},
		},
	} {
		t.Run(plane.folder, func(t *testing.T) {
			t.Parallel()
			guide, chart, others := asWritten(t, plane.folder), map[string]object{}, map[string]bool{}
			for _, o := range renders["default"] {
				others[identity(o)] = true
			}
			for _, o := range renders[plane.render] {
				chart[identity(o)] = o
			}
			for _, name := range plane.readers {
				if guide[name] == nil {
					t.Errorf("the guide has no %s any more", name)
				}
				delete(guide, name)
			}
			plane.differs(guide, chart)
			for name, o := range guide {
				counterpart := chart[plane.names[name]]
				if counterpart == nil {
					t.Errorf("%s of the guide: what is it in the chart?", name)
					continue
				}
				body := "spec"
				if o["kind"] == "ConfigMap" {
					body, o, counterpart = "data", bare(t, o), bare(t, counterpart)
				}
				if diff := cmp.Diff(o[body], counterpart[body]); diff != "" {
					t.Errorf("%s, the guide (-) and the chart (+):\n%s", name, diff)
				}
				delete(chart, plane.names[name])
			}
			for name := range chart {
				if !others[name] {
					t.Errorf("%s of the chart is not in the guide", name)
				}
			}
		})
	}
}
