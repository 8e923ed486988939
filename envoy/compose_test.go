package envoy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"

	"github.com/sessiongate/sessiongate/envoy"
)

// TestComposeOpensOneDoor holds docker-compose.yml to what its first lines say.
func TestComposeOpensOneDoor(t *testing.T) {
	t.Parallel()
	options, err := cli.NewProjectOptions([]string{"../docker-compose.yml"}, cli.WithName("sessiongate"))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, service := range project.Services {
		for _, port := range service.Ports {
			// The app's own port believes any client what it says of the user's identity; that of its network passes all to Envoy.
			if name != "app" || port.HostIP != "127.0.0.1" || port.Target != 10000 {
				t.Errorf("%s publishes %d at %s:%s; only the network before Envoy may be published, on loopback", name, port.Target, port.HostIP, port.Published)
			}
		}
		if !slices.Contains(service.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s can gain privileges", name)
		}
		if name != "postgres" && (!service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"})) {
			t.Errorf("%s is not read-only without capabilities", name)
		}
		if name != "secrets" && service.MemLimit == 0 {
			t.Errorf("%s has no memory limit", name)
		}
		for key, value := range service.Environment {
			secret := strings.Contains(key, "PASSWORD") || strings.Contains(key, "KEY")
			if secret && !strings.Contains(key, "_FILE") {
				t.Errorf("%s has %s=%v in the file; secrets are made at the first start", name, key, *value)
			}
		}
	}
	if at := project.Services["app"].Environment["DEMOAPP_NETWORK_LISTEN"]; at == nil || *at != "0.0.0.0:10000" {
		t.Error("the published port is not that of the network")
	}
	if on := project.Services["sessiongate"].Environment["SESSIONGATE_RESPONSES_DENIAL_HEADER"]; on == nil || *on != "true" {
		t.Error("the demo's journey reads x-sessiongate-denial, and sessiongate does not send it")
	}
	if mode := project.Services["sessiongate"].Environment["SESSIONGATE_BINDING_MODE"]; mode == nil || *mode != "offer" {
		t.Error("the demo's journey binds a session, and sessiongate does not offer it")
	}
	if image := project.Services["envoy"].Image; image != "envoyproxy/envoy:v"+envoy.Version {
		t.Errorf("compose runs %s, the tests run %s", image, envoy.Version)
	}
}
