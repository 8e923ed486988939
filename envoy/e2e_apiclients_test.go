package envoy_test

// Clients of the sessions API, as generators make them of its description. Each is made, compiled with the strictest checks of its language,
// and used by a program of testdata/apiclients against the real process over a real Postgres.

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessiongate/sessiongate/sessions/sessionclient"
)

const (
	apiClients = "testdata/apiclients"
	goRemedy   = "https://go.dev/dl"
	nodeModule = "typescript/node_modules/"
	nodeNeeded = "install Node 20.19 or newer with npm, then run make apiclients"
)

// apiClient is one generator, and a program with what it makes.
type apiClient struct {
	name, tool, remedy string
	files              []string // of testdata/apiclients; the last is the program
	// shown is the generator's command as docs/api.md has it. What follows its first option or word
	// is what the test runs.
	shown string
	// pin is where its version is written.
	pin [2]string
	// generate is how the test starts the generator, before the arguments of shown; compile and run
	// are what follows.
	generate     []string
	more         []string // arguments of the generator, after those of shown
	compile, run []string
	packages     string // of Python
}

var apiClientsOf = []apiClient{
	{
		name: "oapi-codegen", tool: "go", remedy: goRemedy,
		files:    []string{"go/go.mod", "go/go.sum", "go/main.go"},
		shown:    "go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -generate types,client -package sessiongate -o sessiongate/client.gen.go openapi.json",
		pin:      [2]string{"go/go.mod", "github.com/oapi-codegen/oapi-codegen/v2 v2.8.2"},
		generate: []string{"go", "tool", "oapi-codegen"}, compile: []string{"go", "vet", "./..."}, run: []string{"go", "run", "."},
	},
	{
		name: "openapi-typescript", tool: "node", remedy: nodeNeeded,
		files:    []string{"typescript/package.json", "typescript/tsconfig.json", "typescript/openapi-fetch.ts"},
		shown:    "npx openapi-typescript@7.13.0 openapi.json -o sessiongate.d.ts",
		pin:      [2]string{"typescript/package.json", `"openapi-typescript": "7.13.0"`},
		generate: []string{"node", "node_modules/openapi-typescript/bin/cli.js"}, compile: []string{"node", "node_modules/typescript/bin/tsc"}, run: []string{"node", "dist/openapi-fetch.js"},
	},
	{
		name: "hey-api", tool: "node", remedy: nodeNeeded,
		files:    []string{"typescript/package.json", "typescript/tsconfig.json", "typescript/hey-api.ts"},
		shown:    "npx @hey-api/openapi-ts@0.95.0 -i openapi.json -o sessiongate -c @hey-api/client-fetch",
		pin:      [2]string{"typescript/package.json", `"@hey-api/openapi-ts": "0.95.0"`},
		generate: []string{"node", "node_modules/@hey-api/openapi-ts/bin/run.js"}, compile: []string{"node", "node_modules/typescript/bin/tsc"}, run: []string{"node", "dist/hey-api.js"},
	},
	{
		name: "openapi-python-client", tool: "python3", remedy: pipRemedy,
		files:    []string{"python/config.yml", "python/main.py"},
		shown:    "uvx openapi-python-client@0.29.1 generate --path openapi.json --meta none --output-path sessiongate",
		pin:      [2]string{"python/requirements.txt", "openapi-python-client==0.29.1"},
		generate: []string{"python3", "-m", "openapi_python_client"}, more: []string{"--config", "config.yml", "--fail-on-warning"},
		compile: []string{"python3", "-m", "mypy", "--strict", "main.py"}, run: []string{"python3", "main.py"}, packages: "python/requirements.txt",
	},
}

// apiClientsSay is what each program prints. Python writes True.
const apiClientsSay = `created ada pro tea true
verified ada pro
denied 440 try_refresh
refreshed ada
updated free
listed 1 free false
ended true
`

func TestAPIClients(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	s := newStack(t, stackOptions{noEnvoy: true, processes: 1})
	url := "http://" + s.processes[0].internal
	description := s.description(url)
	for _, c := range apiClientsOf {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(string(page), "\n"+c.shown+"\n") {
				t.Errorf("docs/api.md does not show: %s", c.shown)
			}
			c.pinned(t)
			dir, environment := c.prepare(t)
			if err := os.WriteFile(filepath.Join(dir, "openapi.json"), description, 0o600); err != nil {
				t.Fatal(err)
			}
			environment = append(environment, "SESSIONS_URL="+url, "SESSIONS_API_KEY="+s.apiKey, "NO_PROXY=*")
			step := func(command []string) string {
				t.Helper()
				run := exec.CommandContext(t.Context(), command[0], command[1:]...)
				run.Dir, run.Env = dir, environment
				var said strings.Builder
				run.Stderr = &said
				printed, err := run.Output()
				if err != nil {
					t.Fatalf("%s: %v\n%s%s", strings.Join(command, " "), err, printed, said.String())
				}
				return string(printed)
			}
			_, args, _ := strings.Cut(c.shown, "@"+c.version()+" ")
			step(append(append(c.generate, strings.Fields(args)...), c.more...))
			step(c.compile)
			defer c.clean(t, url, s.apiKey)
			if printed := step(c.run); strings.ToLower(printed) != apiClientsSay {
				t.Errorf("it prints\n%swant\n%s", printed, apiClientsSay)
			}
		})
	}
}

// description is openapi.json of the running process.
func (s *stack) description(url string) []byte {
	s.Helper()
	response, err := direct.Get(url + "/openapi.json")
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		s.Fatal(response.Status, err)
	}
	return text
}

// version is that of the generator's command.
func (c apiClient) version() string {
	name, _, _ := strings.Cut(c.shown, " -")
	for word := range strings.FieldsSeq(name) {
		if at := strings.LastIndex(word, "@"); at > 0 {
			return word[at+1:]
		}
	}
	return ""
}

// pinned: what the page shows is what the test runs.
func (c apiClient) pinned(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(apiClients, c.pin[0]))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), c.pin[1]) || c.version() == "" || !strings.Contains(c.pin[1], c.version()) {
		t.Errorf("%s has no %s, or docs/api.md shows another version than it", c.pin[0], c.pin[1])
	}
}

// prepare copies the program to a folder of its own, and finds what the generator needs.
func (c apiClient) prepare(t *testing.T) (dir string, environment []string) {
	t.Helper()
	if _, err := exec.LookPath(c.tool); err != nil {
		t.Fatalf("this test needs %s: %s", c.tool, c.remedy)
	}
	dir = t.TempDir()
	for _, file := range c.files {
		text, err := os.ReadFile(filepath.Join(apiClients, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	environment = os.Environ()
	switch c.tool {
	case "go":
		if err := os.Mkdir(filepath.Join(dir, "sessiongate"), 0o700); err != nil {
			t.Fatal(err)
		}
		return dir, append(environment, "GOWORK=off", "GOFLAGS=")
	case "node":
		modules, err := filepath.Abs(filepath.Join(apiClients, nodeModule))
		if err == nil {
			_, err = os.Stat(filepath.Join(modules, ".package-lock.json"))
		}
		if err != nil {
			t.Fatalf("the generators of TypeScript clients are not installed: %v; %s", err, c.remedy)
		}
		if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
			t.Fatal(err)
		}
		return dir, environment
	default:
		packages, err := pythonPackages(t.Context(), "apiclients", filepath.Join(apiClients, c.packages))
		if err != nil {
			t.Fatal(err)
		}
		return dir, append(environment, "PYTHONPATH="+packages, "PYTHONNOUSERSITE=1", "MYPY_CACHE_DIR="+filepath.Join(dir, ".mypy"))
	}
}

// clean ends what a program left, where it failed: another counts the sessions.
func (c apiClient) clean(t *testing.T, url, key string) {
	t.Helper()
	client := &sessionclient.Client{BaseURL: url, APIKey: sessionclient.Key(key)}
	if _, err := client.EndUser(context.WithoutCancel(t.Context()), "ada", ""); err != nil {
		t.Errorf("ending what the program left: %v", err)
	}
}
