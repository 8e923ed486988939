package helm_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// cluster is a real API server of Kubernetes without nodes and without controllers: what it is told is judged and kept, and no pod runs.
type cluster struct {
	kubeconfig string
	config     *rest.Config
	typed      *kubernetes.Clientset
	dynamic    dynamic.Interface
	mapper     *restmapper.DeferredDiscoveryRESTMapper
	warnings   *warnings
}

// warnings keeps what the server says beside its answers.
type warnings struct {
	mu   sync.Mutex
	said []string
}

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
}

// start starts it, in the module that builds it.
func start(t *testing.T) *cluster {
	t.Helper()
	server := exec.Command("go", "run", "./kubernetes")
	server.Dir, server.Stderr = "../planes", os.Stderr
	server.Env = append(os.Environ(), "GOWORK=off")
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // which ends it
		_ = server.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("starting Kubernetes' API: %v", err)
	}
	c := &cluster{kubeconfig: strings.TrimSpace(line), warnings: &warnings{}}
	c.config, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	c.config.WarningHandler, c.config.QPS = c.warnings, -1
	c.typed, err = kubernetes.NewForConfig(c.config)
	if err != nil {
		t.Fatal(err)
	}
	c.dynamic, err = dynamic.NewForConfig(c.config)
	if err != nil {
		t.Fatal(err)
	}
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.typed.Discovery()))
	return c
}

// resource is where the server has the kind of an object.
func (c *cluster) resource(o object) (dynamic.ResourceInterface, *unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{Object: o}
	mapping, err := c.mapper.RESTMapping(u.GroupVersionKind().GroupKind(), u.GroupVersionKind().Version)
	if err != nil {
		return nil, nil, err
	}
	if mapping.Scope.Name() == "namespace" {
		return c.dynamic.Resource(mapping.Resource).Namespace(u.GetNamespace()), u, nil
	}
	return c.dynamic.Resource(mapping.Resource), u, nil
}

// apply has the server judge an object, as a server-side apply that refuses unknown fields, and keep it unless dry.
func (c *cluster) apply(ctx context.Context, o object, dry bool) error {
	to, u, err := c.resource(o)
	if err != nil {
		return err
	}
	options := metav1.PatchOptions{FieldManager: "guide", FieldValidation: "Strict", Force: new(true)}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	body, err := json.Marshal(u)
	if err != nil {
		return err
	}
	_, err = to.Patch(ctx, u.GetName(), types.ApplyPatchType, body, options)
	return err
}

// plain are objects as they come by JSON, which the dynamic client wants.
func plain(t *testing.T, text string) []object {
	t.Helper()
	var all []object
	for _, document := range documents(t, text) {
		text, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		var o object
		if err := json.Unmarshal(text, &o); err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

// namespaces makes each, with Kubernetes' strictest standard for pods.
func (c *cluster) namespaces(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		labels := map[string]string{"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
		_, err := c.typed.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// pin finds the version and the hash of a module among the schemas of the guides' manifests.
func pin(path string) *regexp.Regexp {
	return regexp.MustCompile(`module\{"` + regexp.QuoteMeta(path) + `", "([^"]+)", "([^"]+)"\}`)
}

// definitions teaches the server the custom resources that renders have. The versions are those of envoy/schemas_test.go.
func (c *cluster) definitions(t *testing.T) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root, "envoy/schemas_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for path, patterns := range map[string][]string{
		"istio.io/api":                                       {"kubernetes/customresourcedefinitions.gen.yaml"},
		"github.com/envoyproxy/gateway":                      {"charts/gateway-helm/charts/crds/crds/gatewayapi-crds.yaml", "charts/gateway-helm/charts/crds/crds/generated/*.yaml"},
		"github.com/prometheus-operator/prometheus-operator": {"example/prometheus-operator-crd/monitoring.coreos.com_p*.yaml"},
	} {
		pinned := pin(path).FindSubmatch(source)
		if pinned == nil {
			t.Fatalf("envoy/schemas_test.go has no version of %s", path)
		}
		download := exec.Command("go", "mod", "download", "-json", path+"@"+string(pinned[1]))
		download.Dir, download.Env = t.TempDir(), append(os.Environ(), "GOFLAGS=", "GOWORK=off")
		output, err := download.Output()
		var found struct{ Dir, Sum, Error string }
		if json.Unmarshal(output, &found) != nil || found.Sum != string(pinned[2]) {
			t.Fatalf("go mod download %s: %v %s", path, err, found.Error)
		}
		for _, pattern := range patterns {
			files, err := filepath.Glob(filepath.Join(found.Dir, pattern))
			if err != nil || len(files) == 0 {
				t.Fatalf("%s has no %s", path, pattern)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range plain(t, string(text)) {
					if o["kind"] != "CustomResourceDefinition" {
						continue
					}
					if err := c.apply(t.Context(), o, false); err != nil {
						t.Fatalf("%s: %v", file, err)
					}
					kinds[o["metadata"].(object)["name"].(string)] = true
				}
			}
		}
	}
	// Each is in force once the server says so.
	to, _, err := c.resource(object{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"})
	if err != nil {
		t.Fatal(err)
	}
	events, err := to.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	for len(kinds) > 0 {
		event, open := <-events.ResultChan()
		if !open {
			t.Fatalf("the server stopped telling; still waiting for %v", kinds)
		}
		u, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		for _, condition := range conditions {
			if condition.(object)["type"] == "Established" && condition.(object)["status"] == "True" {
				delete(kinds, u.GetName())
			}
		}
	}
	c.mapper.Reset()
}

// anyVersion is a copy of the chart for every Kubernetes: a server that plain `go build` made says that its version is 0.0.0.
func anyVersion(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), chart)
	if err := os.CopyFS(folder, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "Chart.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, regexp.MustCompile(`(?m)^kubeVersion: .*$`).ReplaceAll(text, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// helm runs Helm against the cluster.
func (c *cluster) helm(args ...string) (string, error) {
	return run(append(args, "--kubeconfig="+c.kubeconfig)...)
}

// TestServer gives every render to a real API server, and every pod of it to the server's own check of the restricted standard.
func TestServer(t *testing.T) {
	c := start(t)
	c.namespaces(t, "sessiongate", "auth", "ingress", "istio-ingress")
	c.definitions(t)
	folder := anyVersion(t)
	files, err := cases()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if _, err := c.helm(append([]string{"install", "--dry-run=server", "--values=" + file}, placed(file, folder)...)...); err != nil {
				t.Error(err)
			}
			text, err := os.ReadFile(filepath.Join(records, filepath.Base(file)))
			if err != nil {
				t.Fatal(err)
			}
			pods := 0
			for _, o := range plain(t, string(text)) {
				if err := c.apply(t.Context(), o, true); err != nil {
					t.Errorf("%v %v: %v", o["kind"], o["metadata"].(object)["name"], err)
				}
				template, ok, _ := unstructured.NestedMap(o, "spec", "template")
				if !ok {
					continue
				}
				pods++
				template["apiVersion"], template["kind"] = "v1", "Pod"
				template["metadata"].(object)["name"], template["metadata"].(object)["namespace"] = "pod", o["metadata"].(object)["namespace"]
				delete(template["spec"].(object), "priorityClassName") // which this cluster has not
				to, u, err := c.resource(template)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := to.Create(t.Context(), u, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: "Strict"}); err != nil {
					t.Errorf("the pod of %v %v: %v", o["kind"], o["metadata"].(object)["name"], err)
				}
			}
			if pods == 0 {
				t.Error("no pod was tried")
			}
		})
	}
	for _, said := range c.warnings.said {
		t.Errorf("the server warns: %s", said)
	}
	// The check of pods is on.
	root := object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": "root", "namespace": "sessiongate"}, "spec": object{"containers": []any{object{"name": "a", "image": "a"}}}}
	if err := c.apply(t.Context(), root, true); err == nil || !strings.Contains(err.Error(), "restricted") {
		t.Errorf("a pod that may be root: %v", err)
	}
}

// kubelet ends each Job as it is told to: with success, or not. It stands for the nodes and the controller that this cluster has not.
type kubelet struct {
	mu     sync.Mutex
	fail   bool
	before []string // what was there when the Job came, by kind
	jobs   []types.UID
}

func (k *kubelet) run(t *testing.T, c *cluster) {
	t.Helper()
	events, err := c.typed.BatchV1().Jobs("sessiongate").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { events.Stop(); <-done })
	ctx := context.WithoutCancel(t.Context())
	go func() {
		defer close(done)
		for event := range events.ResultChan() {
			job, ok := event.Object.(*batchv1.Job)
			if !ok || event.Type != watch.Added {
				continue
			}
			k.mu.Lock()
			k.jobs = append(k.jobs, job.UID)
			k.before = c.there(ctx)
			now := metav1.Now()
			job.Status = batchv1.JobStatus{StartTime: &now, CompletionTime: &now, Succeeded: 1, UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{}}
			types := []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobComplete}
			if k.fail {
				job.Status.CompletionTime, job.Status.Succeeded, job.Status.Failed = nil, 0, 4
				types = []batchv1.JobConditionType{batchv1.JobFailureTarget, batchv1.JobFailed}
			}
			for _, condition := range types {
				job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{Type: condition, Status: corev1.ConditionTrue, LastTransitionTime: now, Reason: "Tried"})
			}
			k.mu.Unlock()
			if _, err := c.typed.BatchV1().Jobs("sessiongate").UpdateStatus(ctx, job, metav1.UpdateOptions{}); err != nil {
				t.Errorf("ending the Job: %v", err)
			}
		}
	}()
}

// there are the kinds and names of what the namespace holds.
func (c *cluster) there(ctx context.Context) []string {
	var all []string
	for kind, version := range map[string]string{
		"ServiceAccount": "v1", "ConfigMap": "v1", "Service": "v1", "Deployment": "apps/v1", "PodDisruptionBudget": "policy/v1",
		"NetworkPolicy": "networking.k8s.io/v1", "Job": "batch/v1", "HorizontalPodAutoscaler": "autoscaling/v2",
	} {
		to, _, err := c.resource(object{"apiVersion": version, "kind": kind, "metadata": object{"namespace": "sessiongate"}})
		if err != nil {
			all = append(all, err.Error())
			continue
		}
		list, err := to.List(ctx, metav1.ListOptions{})
		if err != nil {
			all = append(all, err.Error())
			continue
		}
		for _, item := range list.Items {
			all = append(all, kind+" "+item.GetName())
		}
	}
	slices.Sort(all)
	return all
}

var (
	afterHooks   = []string{"Job sessiongate-migrate"}
	duringHooks  = []string{"Job sessiongate-migrate", "NetworkPolicy sessiongate-migrate"}
	afterInstall = []string{
		"ConfigMap sessiongate", "Deployment sessiongate", "Job sessiongate-migrate", "NetworkPolicy sessiongate", "PodDisruptionBudget sessiongate",
		"Service sessiongate", "Service sessiongate-internal", "Service sessiongate-pods", "ServiceAccount sessiongate",
	}
)

// TestRelease installs, upgrades, rolls back and removes, as the guide says, with migrations that succeed and that fail.
func TestRelease(t *testing.T) {
	c := start(t)
	c.namespaces(t, "sessiongate")
	chart := anyVersion(t)
	k := &kubelet{}
	k.run(t, c)
	do := func(fail bool, args ...string) error {
		t.Helper()
		k.mu.Lock()
		k.fail, k.before = fail, nil
		k.mu.Unlock()
		_, err := c.helm(append(args, "--namespace=sessiongate")...)
		return err
	}
	must := func(args ...string) {
		t.Helper()
		if err := do(false, args...); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(when string, want []string) {
		t.Helper()
		if got := c.there(t.Context()); !slices.Equal(got, want) {
			t.Errorf("%s there is %q, want %q", when, got, want)
		}
	}
	// seen is what the last Job found when it came; jobs, how many there have been.
	seen := func() (before []string, jobs int) {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.before, len(k.jobs)
	}
	type state struct {
		image, sum string
		uid        types.UID
		replicas   int32
	}
	deployment := func() state {
		t.Helper()
		d, err := c.typed.AppsV1().Deployments("sessiongate").Get(t.Context(), "sessiongate", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return state{d.Spec.Template.Spec.Containers[0].Image, d.Spec.Template.Annotations["checksum/config"], d.UID, *d.Spec.Replicas}
	}

	// The first migration fails: nothing else was made.
	if err := do(true, "upgrade", "--install", "sessiongate", chart); err == nil {
		t.Error("an install without its migration succeeds")
	}
	holds("after a failed install", afterHooks)
	if before, _ := seen(); !slices.Equal(before, duringHooks) {
		t.Errorf("the Job came to %q", before)
	}
	// The same command again, as a pipeline would run it.
	must("upgrade", "--install", "sessiongate", chart)
	holds("after the install", afterInstall)
	before, jobs := seen()
	if !slices.Equal(before, duringHooks) {
		t.Errorf("the Job came to %q", before)
	}
	first := deployment()
	if first.image != "registry.example/sessiongate:0.1.0" || first.replicas != 2 {
		t.Errorf("installed: %+v", first)
	}

	// An upgrade migrates first, and changes the pods' template with the configuration.
	must("upgrade", "--install", "sessiongate", chart, "--set=image.tag=0.2.0", "--set=config.log.level=warn")
	second := deployment()
	if second.image != "registry.example/sessiongate:0.2.0" || second.sum == first.sum || second.uid != first.uid {
		t.Errorf("upgraded: %+v, after %+v", second, first)
	}
	if before, now := seen(); now != jobs+1 || !slices.Contains(before, "Deployment sessiongate") || !slices.Contains(before, "NetworkPolicy sessiongate-migrate") {
		t.Errorf("%d Jobs after %d; the last came to %q", now, jobs, before)
	}
	holds("after the upgrade", afterInstall)

	// A migration that fails changes nothing.
	if err := do(true, "upgrade", "sessiongate", chart, "--set=image.tag=0.3.0"); err == nil {
		t.Error("an upgrade without its migration succeeds")
	}
	if third := deployment(); third != second {
		t.Errorf("after a failed upgrade: %+v, want %+v", third, second)
	}
	holds("after a failed upgrade", afterInstall)

	// Back, without a migration.
	_, jobs = seen()
	must("rollback", "sessiongate", "2") // the second revision is the first that succeeded
	if back := deployment(); back != first {
		t.Errorf("rolled back: %+v, want %+v", back, first)
	}
	if _, now := seen(); now != jobs {
		t.Errorf("a rollback migrated")
	}
	holds("after the rollback", afterInstall)

	// What an autoscaler sets stays.
	must("upgrade", "sessiongate", chart, "--set=autoscaling.enabled=true")
	if replicas := deployment().replicas; replicas != 1 {
		t.Errorf("the guide says that the replicas are 1 until the autoscaler looks, and they are %d", replicas)
	}
	scale, err := c.typed.AppsV1().Deployments("sessiongate").GetScale(t.Context(), "sessiongate", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scale.Spec.Replicas = 5
	if _, err := c.typed.AppsV1().Deployments("sessiongate").UpdateScale(t.Context(), "sessiongate", scale, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	must("upgrade", "sessiongate", chart, "--set=autoscaling.enabled=true", "--set=image.tag=0.2.0")
	if replicas := deployment().replicas; replicas != 5 {
		t.Errorf("an upgrade sets the replicas to %d, and the autoscaler had 5", replicas)
	}

	// Removed: the Secrets of the reader and the last Job stay.
	if _, err := c.typed.CoreV1().Secrets("sessiongate").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "sessiongate-key"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	must("uninstall", "sessiongate")
	holds("after the removal", afterHooks)
	if _, err := c.typed.CoreV1().Secrets("sessiongate").Get(t.Context(), "sessiongate-key", metav1.GetOptions{}); err != nil {
		t.Errorf("the Secret: %v", err)
	}

	// From the manifests to the chart. Without the flag Helm touches nothing that is not its own.
	files, err := filepath.Glob(manifests + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range plain(t, string(text)) {
			if o["kind"] == "Job" {
				continue // the last one is there
			}
			if err := c.apply(t.Context(), o, false); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
	}
	written := deployment()
	if err := do(false, "upgrade", "--install", "sessiongate", chart); err == nil {
		t.Error("Helm takes what is not its own")
	}
	must("upgrade", "--install", "sessiongate", chart, "--take-ownership")
	if taken := deployment(); taken.uid != written.uid || taken.replicas != 2 {
		t.Errorf("taken over: %+v, after %+v", taken, written)
	}
	holds("after the take-over", afterInstall)
}
