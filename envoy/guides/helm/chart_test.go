// Package helm_test gives the chart to the real Helm, and the manifests of ../kubernetes to the real kustomize. `make chart` runs it. It is a
// module of its own: nothing of Helm enters the product.
//
// What Helm makes of the chart is recorded in envoy/testdata/chart, a file for each of testdata. `make test` judges the records, without
// Helm: against the manifests of the guides, the schemas of each Kubernetes and sessiongate itself. This package promises that the records
// are what Helm makes of the files that are here.
package helm_test

import (
	"bytes"
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
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const (
	root    = "../../.."
	chart   = "sessiongate"
	records = root + "/envoy/testdata/chart"
	// newest is the version of Kubernetes that a render without a cluster is for. What depends on it is nothing but the chart's own kubeVersion.
	newest = "1.37.0"
	again  = "run make chart RECORD=1, and look at the difference"
)

func TestMain(m *testing.M) {
	if os.Getenv("SESSIONGATE_RECORD") != "" {
		if err := writeAll(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeAll writes in the order of what depends on what: a render reads the generated files, and a sum is of both.
func writeAll() error {
	for _, produce := range []func() (map[string]string, error){generated, renders, sums} {
		files, err := produce()
		if err != nil {
			return err
		}
		for name, text := range files {
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// helm is the binary of go.mod's tool, which Go builds once and keeps.
var helm = sync.OnceValues(func() (string, error) {
	output, err := exec.Command("go", "tool", "-n", "helm").Output()
	if err != nil {
		return "", fmt.Errorf("building helm: %w", err)
	}
	return strings.TrimSpace(string(output)), nil
})

// run runs helm, away from the user's own settings.
func run(args ...string) (string, error) {
	file, err := helm()
	if err != nil {
		return "", err
	}
	home, err := os.MkdirTemp("", "sessiongate-helm-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(home) }()
	var stdout, stderr bytes.Buffer
	command := exec.Command(file, args...)
	command.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("helm %s: %w\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// cases are the sets of values that are rendered, by their file's name.
func cases() ([]string, error) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err == nil && len(files) < 12 {
		err = fmt.Errorf("only %d cases", len(files))
	}
	return files, err
}

// placed returns what each case is installed as. All but one are installed as the guide says.
func placed(file, chart string) []string {
	if filepath.Base(file) == "other-namespace.yaml" {
		return []string{"gate", chart, "--namespace=auth"}
	}
	return []string{"sessiongate", chart, "--namespace=sessiongate"}
}

// renders are what Helm makes of each case.
func renders() (map[string]string, error) {
	files, err := cases()
	if err != nil {
		return nil, err
	}
	made := map[string]string{}
	for _, file := range files {
		text, err := run(append([]string{"template", "--kube-version=" + newest, "--values=" + file}, placed(file, chart)...)...)
		if err != nil {
			return nil, err
		}
		made[filepath.Join(records, filepath.Base(file))] = text
	}
	return made, nil
}

// sums name each file that a render comes from, so that `make test` knows without Helm whether a record is of today's chart.
func sums() (map[string]string, error) {
	var lines []string
	add := func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		lines = append(lines, fmt.Sprintf("%x  %s\n", sha256.Sum256(text), filepath.ToSlash(name)))
		return err
	}
	for _, path := range []string{"go.mod", chart, "testdata"} {
		if err := filepath.WalkDir(path, add); err != nil {
			return nil, err
		}
	}
	return map[string]string{filepath.Join(records, "SHA256SUMS"): strings.Join(lines, "")}, nil
}

// generated are the chart's files that say what others say first. A chart cannot reach out of its folder, so it holds copies.
func generated() (map[string]string, error) {
	made := map[string]string{}
	for _, name := range []string{"alerts.yaml", "dashboard.json"} {
		text, err := os.ReadFile(filepath.Join(root, "docs/monitoring", name))
		if err != nil {
			return nil, err
		}
		made[filepath.Join(chart, "files", name)] = string(text)
	}
	schema, err := schemaOfValues()
	if err != nil {
		return nil, err
	}
	text, err := asJSON(schema)
	if err != nil {
		return nil, err
	}
	made[filepath.Join(chart, "values.schema.json")] = text
	made[filepath.Join(chart, "README.md")], err = readme(schema)
	return made, err
}

func asJSON(value any) (string, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(value)
	return text.String(), err
}

type object = map[string]any

// schemaOfValues is the schema that is there, with sessiongate's own in it. The settings that hold a secret are left out, and so refused:
// Helm keeps values in the cluster, and prints them to anyone who may ask for them. A hash of a random secret is none.
func schemaOfValues() (object, error) {
	program := exec.Command("go", "run", "./cmd/sessiongate", "config", "schema")
	program.Dir, program.Stderr = root, os.Stderr
	output, err := program.Output()
	if err != nil {
		return nil, fmt.Errorf("sessiongate config schema: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		return nil, err
	}
	var config, schema object
	if err := json.Unmarshal(output, &config); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		return nil, err
	}
	delete(config, "$schema")
	properties := config["properties"].(object)
	delete(properties, "key")
	delete(properties, "key_previous")
	delete(properties["api"].(object)["properties"].(object), "keys")
	schema["$defs"].(object)["sessiongate"] = config
	return schema, nil
}

var table = regexp.MustCompile(`(?s)<!-- values -->.*<!-- /values -->`)

// readme is the README that is there, with the table of the values: their names and defaults from values.yaml, and what the schema says of them.
func readme(schema object) (string, error) {
	text, err := os.ReadFile(filepath.Join(chart, "README.md"))
	if err != nil {
		return "", err
	}
	values, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return "", err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(values, &document); err != nil {
		return "", err
	}
	var rows strings.Builder
	rows.WriteString("| Value | Default | |\n|---|---|---|\n")
	var walk func(prefix string, node *yaml.Node, schema object) error
	walk = func(prefix string, node *yaml.Node, schema object) error {
		for i := 0; i < len(node.Content); i += 2 {
			name, value := prefix+node.Content[i].Value, node.Content[i+1]
			property, ok := schema["properties"].(object)[node.Content[i].Value].(object)
			if !ok {
				return fmt.Errorf("values.yaml has %s, and values.schema.json does not", name)
			}
			if property["properties"] != nil {
				if err := walk(name+".", value, property); err != nil {
					return err
				}
				continue
			}
			description, _ := property["description"].(string)
			if description == "" {
				return fmt.Errorf("values.schema.json does not describe %s", name)
			}
			var plain any
			if err := value.Decode(&plain); err != nil {
				return err
			}
			said, err := json.Marshal(plain)
			if err != nil {
				return err
			}
			initial := "`" + string(said) + "`"
			if len(said) > 60 {
				initial = "in [values.yaml](values.yaml)"
			}
			_, _ = fmt.Fprintf(&rows, "| `%s` | %s | %s |\n", name, initial, description)
		}
		return nil
	}
	if err := walk("", document.Content[0], schema); err != nil {
		return "", err
	}
	if !table.Match(text) {
		return "", fmt.Errorf("%s/README.md has no place for the values", chart)
	}
	return table.ReplaceAllLiteralString(string(text), "<!-- values -->\n"+rows.String()+"<!-- /values -->"), nil
}

// TestRecords compares what is generated, what Helm makes of each case, and the sums, with the files that are there.
func TestRecords(t *testing.T) {
	t.Parallel()
	want := map[string]string{}
	for _, produce := range []func() (map[string]string, error){generated, renders, sums} {
		files, err := produce()
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(want, files)
	}
	for name, text := range want {
		there, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%v: %s", err, again)
			continue
		}
		if diff := cmp.Diff(strings.Split(string(there), "\n"), strings.Split(text, "\n")); diff != "" {
			t.Errorf("%s (-) and what it is made of (+): %s\n%s", name, again, diff)
		}
	}
	recorded, err := os.ReadDir(records)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range recorded {
		if _, ok := want[filepath.Join(records, entry.Name())]; !ok {
			t.Errorf("%s is of no case any more: remove it", entry.Name())
		}
	}
}

// TestLint has Helm's own opinion, where a warning counts.
func TestLint(t *testing.T) {
	t.Parallel()
	files, err := cases()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			if _, err := run("lint", "--strict", "--kube-version="+newest, "--values="+file, chart); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRefusals: what is wrong in values is said before anything reaches the cluster, with the place and the reason, and without the secret.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const secret = "c29tZXRoaW5nIHRoYXQgbm8gb25lIG1heSBzZWU"
	for values, said := range map[string]string{
		// Secrets.
		"config: {key: " + secret + "}":                                                           `at '/config': additional properties 'key' not allowed`,
		"config: {key_previous: " + secret + "}":                                                  `at '/config': additional properties 'key_previous' not allowed`,
		"config: {api: {keys: ['webapp:" + secret + "']}}":                                        `at '/config/api': additional properties 'keys' not allowed`,
		"config: {database: {url: 'postgres://serve:" + secret + "@db/sessiongate'}}":             `config.database.url holds a password`,
		"config: {database: {url: 'postgres://serve@db/sessiongate?Password=" + secret + "'}}":    `config.database.url holds a password`,
		"migrate: {databaseUrl: 'postgresql://owner:" + secret + "@db:5432,db2/sessiongate?a=b'}": `migrate.databaseUrl holds a password`,
		"config: {database: {url: ''}}":                                                           `at '/config/database/url': minLength: got 0, want 1`,
		"migrate: {databaseUrl: 'host=db password=" + secret + "'}":                               `migrate.databaseUrl is no URL`,
		"extraEnv: [{name: SESSIONGATE_KEY, value: " + secret + "}]":                              `extraEnv holds SESSIONGATE_KEY`,
		"extraEnv: [{name: PGPASSWORD, value: " + secret + "}]":                                   `extraEnv holds PGPASSWORD`,
		"extraEnv: [{name: A, valueFrom: {secretKeyRef: {name: a, key: b}}}]":                     `at '/extraEnv/0/valueFrom': additional properties 'secretKeyRef' not allowed`,
		"config: {database: {url: 'postgres://serve@db/sessiongate?passwor%64=" + secret + "'}}":  `config.database.url holds a password`,
		"config: {tracing: {otlp_endpoint: 'http://u:" + secret + "@collector:4318'}}":            `config.tracing.otlp_endpoint holds a user or a password`,
		"extraEnv: [{name: OTEL_EXPORTER_OTLP_HEADERS, value: " + secret + "}]":                   `extraEnv holds OTEL_EXPORTER_OTLP_HEADERS`,
		"secrets: {keyValue: " + secret + "}":                                                     `at '/secrets': additional properties 'keyValue' not allowed`,
		"secrets: {key: ''}":                                                                      `at '/secrets/key'`,
		"secrets: {database: null}":                                                               `at '/secrets': missing property 'database'`,
		// Slips.
		"name: 1st": `"1st" is no name for the Services`,
		"name: a.b": `"a.b" is no name for the Services`,
		"networkPolicy: {extraIngress: [{from: [], ports: [{port: 9001}]}]}": `at '/networkPolicy/extraIngress/0/from': minItems: got 0, want 1`,
		"networkPolicy: {extraEgress: [{to: []}]}":                           `at '/networkPolicy/extraEgress/0/to': minItems: got 0, want 1`,
		"replica: 3":                             `at '': additional properties 'replica' not allowed`,
		"config: {databse: {migrate: false}}":    `at '/config': additional properties 'databse' not allowed`,
		"config: {anti_csrf: sometimes}":         `at '/config/anti_csrf': value must be one of 'always', 'attested', 'unsafe', 'off'`,
		"config: {cache: {tokens: many}}":        `at '/config/cache/tokens': got string, want integer`,
		"config: {listen: {authz: ':9001'}}":     `at '/config/listen/authz'`,
		"config: {shutdown: {timeout: 1m}}":      `at '/config/shutdown/timeout'`,
		"config: {shutdown: null}":               `at '/config': missing property 'shutdown'`,
		"image: {tag: 1.20}":                     `at '/image/tag': got number, want string`,
		"image: {digest: 'sha256:abc'}":          `at '/image/digest'`,
		"image: {repository: ''}":                `at '/image/repository'`,
		"replicas: 0":                            `at '/replicas': minimum: got 0, want 1`,
		"replicas: two":                          `at '/replicas': got string, want integer`,
		"autoscaling: {minReplicas: 9}":          `autoscaling.minReplicas is 9, and autoscaling.maxReplicas is 6`,
		"podLabels: {app.kubernetes.io/name: a}": `at '/podLabels/app.kubernetes.io~1name': false schema`,
		// What would open more than meant.
		"config: {listen: {internal: '127.0.0.1:9003'}}":                                        `at '/config/listen/internal'`,
		"networkPolicy: {envoy: []}":                                                            `at '/networkPolicy/envoy': minItems: got 0, want 1`,
		"networkPolicy: {envoy: null}":                                                          `at '/networkPolicy': missing property 'envoy'`,
		"networkPolicy: {internal: [{}]}":                                                       `at '/networkPolicy/internal/0'`,
		"networkPolicy: {envoy: [{podSelector: {matchLabels: {a: b}}}]}":                        `missing property 'namespaceSelector'`,
		"networkPolicy: {envoy: [{namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}]}": `at '/networkPolicy/envoy/0/namespaceSelector'`,
		"networkPolicy: {internal: [{ipBlock: {cidr: 0.0.0.0/0}}]}":                             `networkPolicy.internal names every address`,
		"networkPolicy: {extraIngress: [{ports: [{port: 9001}]}]}":                              `at '/networkPolicy/extraIngress/0': missing property 'from'`,
		"gatewayApi: {cors: {allowOrigins: ['*']}}":                                             `at '/gatewayApi/cors/allowOrigins/0'`,
		"gatewayApi: {cors: {allowOrigins: ['https://*.example.com']}}":                         `at '/gatewayApi/cors/allowOrigins/0'`,
		"gatewayApi: {failOpen: true}":                                                          `at '/gatewayApi': additional properties 'failOpen' not allowed`,
		"istio: {unchecked: [/*]}":                                                              `at '/istio/unchecked/0'`,
		"networkPolicy: {envoy: [{ipBlock: {cidr: 128.0.0.0/1}}]}":                              `networkPolicy.envoy names every address, or nearly`,
		"networkPolicy: {envoy: [{ipBlock: {cidr: '2000::/3'}}]}":                               `networkPolicy.envoy names every address, or nearly`,
		"networkPolicy: {envoy: [{namespaceSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b]}]}, podSelector: {matchExpressions: [{key: a, operator: DoesNotExist}]}}]}": `networkPolicy.envoy names all pods but some`,
		"podAnnotations: {checksum/config: a}":                           `at '/podAnnotations/checksum~1config'`,
		"gatewayApi: {policy: {session: none}}":                          `at '/gatewayApi/policy/session'`,
		"istio: {unchecked: [/a*]}":                                      `at '/istio/unchecked/0'`,
		"istio: {unchecked: ['/{**}']}":                                  `at '/istio/unchecked/0'`,
		"istio: {unchecked: [/]}":                                        `at '/istio/unchecked/0'`,
		"istio: {unchecked: ['*']}":                                      `at '/istio/unchecked/0'`,
		"istio: {internalPrincipals: ['*']}":                             `at '/istio/internalPrincipals/0'`,
		"istio: {enabled: true}":                                         `istio.gateway.labels is empty`,
		"istio: {gateway: {labels: null}}":                               `at '/istio/gateway': missing property 'labels'`,
		"extraVolumes: [{name: a, hostPath: {path: /}}]":                 `at '/extraVolumes/0/hostPath'`,
		"extraVolumeMounts: [{name: a, mountPath: /a, readOnly: false}]": `at '/extraVolumeMounts/0/readOnly'`,
	} {
		t.Run(said, func(t *testing.T) {
			t.Parallel()
			folder, err := os.MkdirTemp("", "sessiongate-values-") // not t.TempDir: Helm splits the name at a comma
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(folder) })
			file := filepath.Join(folder, "values.yaml")
			if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := run("template", "a", chart, "--kube-version="+newest, "--values="+file); err == nil {
				t.Errorf("accepted: %s", values)
			} else if text := err.Error(); !strings.Contains(text, said) || strings.Contains(text, secret) {
				t.Errorf("of %s Helm says:\n%s\nwant %q, and no secret", values, text, said)
			}
		})
	}
}

// TestGuide renders the values that the guide shows, and counts what it counts.
func TestGuide(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile(filepath.Join(root, "docs/guides/kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, values, found := strings.Cut(string(guide), "cat > values.yaml <<'END'\n")
	values, _, ended := strings.Cut(values, "END\n")
	if !found || !ended {
		t.Fatal("the guide shows no values")
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := run("template", "sessiongate", chart, "--namespace=sessiongate", "--kube-version="+newest, "--values="+file)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing is left of what a reader has to change.
	for _, left := range []string{"registry.example/", "db.example.internal", "192.0.2.10", "kubernetes.io/metadata.name: ingress", "kubernetes.io/metadata.name: app\n", "name: envoy"} {
		if strings.Contains(text, left) {
			t.Errorf("with the guide's values a default is left that says CHANGE: %s", left)
		}
	}
	files, err := cases()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 17 || !strings.Contains(string(guide), "seventeen sets of values") {
		t.Errorf("the guide says seventeen sets of values, and there are %d", len(files))
	}
}

// TestOldKubernetes: below the first version that the schemas are known of, Helm installs nothing.
func TestOldKubernetes(t *testing.T) {
	t.Parallel()
	if _, err := run("template", "a", chart, "--kube-version=1.30.9"); err == nil || !strings.Contains(err.Error(), "kubeVersion") {
		t.Errorf("for Kubernetes 1.30: %v", err)
	}
	if _, err := run("template", "a", chart, "--kube-version=1.31.0-eks.1"); err != nil {
		t.Error(err)
	}
}

// documents are the objects of a YAML text, in the order of their kind and name.
func documents(t *testing.T, text string) []object {
	t.Helper()
	var all []object
	for decoder := yaml.NewDecoder(strings.NewReader(text)); ; {
		var document object
		if err := decoder.Decode(&document); err != nil {
			if err.Error() == "EOF" {
				break
			}
			t.Fatal(err)
		}
		if document != nil {
			all = append(all, document)
		}
	}
	key := func(o object) string {
		return fmt.Sprint(o["kind"], o["metadata"].(object)["namespace"], o["metadata"].(object)["name"])
	}
	slices.SortFunc(all, func(a, b object) int { return strings.Compare(key(a), key(b)) })
	return all
}
