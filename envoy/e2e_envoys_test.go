package envoy_test

// The same tests with Envoys of other versions: docs/compatibility.md has what they found.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sessiongate/sessiongate/envoy"
	"github.com/sessiongate/sessiongate/envoy/typed"
	"github.com/sessiongate/sessiongate/internal/envoyrun"
)

// envoysEnv makes TestEnvoys run.
const envoysEnv = "SESSIONGATE_ENVOYS"

// withoutClusterRetries tells of an Envoy that does not know retry_policy in a cluster: 1.36 and older.
func withoutClusterRetries(version string) bool { return strings.HasPrefix(version, "1.36.") }

// olderRetries moves the cluster's retry policy to where an older Envoy knows it, where this run is with one: docs/compatibility.md shows it
// as lines of the file. Envoys that know it in the cluster are left alone.
func olderRetries(bootstrap *bootstrapv3.Bootstrap) error {
	if !withoutClusterRetries(os.Getenv(envoyrun.OtherEnv)) {
		return nil
	}
	return typed.EditConnectionManager(bootstrap, "ingress", func(manager *hcmv3.HttpConnectionManager) error {
		for _, filter := range manager.GetHttpFilters() {
			check, packed := new(extauthzv3.ExtAuthz), filter.GetTypedConfig()
			if !packed.MessageIs(check) {
				continue
			}
			if err := packed.UnmarshalTo(check); err != nil {
				return err
			}
			policy, err := takeRetries(bootstrap, check.GetGrpcService().GetEnvoyGrpc().GetClusterName())
			if err != nil || policy == nil { // nil: an edit before this one has moved it
				return err
			}
			check.GetGrpcService().RetryPolicy = inService(policy, check.GetGrpcService().GetTimeout())
			return packed.MarshalFrom(check)
		}
		return errors.New("there is no ext_authz filter")
	})
}

// takeRetries takes the retry policy out of a cluster.
func takeRetries(bootstrap *bootstrapv3.Bootstrap, name string) (*routev3.RetryPolicy, error) {
	for _, cluster := range bootstrap.GetStaticResources().GetClusters() {
		packed := cluster.GetTypedExtensionProtocolOptions()["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
		if cluster.GetName() != name || packed == nil {
			continue
		}
		options := new(upstreamhttpv3.HttpProtocolOptions)
		if err := packed.UnmarshalTo(options); err != nil {
			return nil, err
		}
		policy := options.GetRetryPolicy()
		options.RetryPolicy = nil
		return policy, packed.MarshalFrom(options)
	}
	return nil, nil
}

// inService is a route's retry policy in the words of a gRPC service. There Envoy gives each try the longest pause between tries as its
// time: ten times the shortest one, 50 ms here, unless it is named. A busy machine would then have false 503s.
func inService(policy *routev3.RetryPolicy, timeout *durationpb.Duration) *corev3.RetryPolicy {
	service := &corev3.RetryPolicy{
		RetryOn: policy.GetRetryOn(), NumRetries: policy.GetNumRetries(), HostSelectionRetryMaxAttempts: policy.GetHostSelectionRetryMaxAttempts(),
		RetryBackOff: &corev3.BackoffStrategy{BaseInterval: policy.GetRetryBackOff().GetBaseInterval(), MaxInterval: timeout},
	}
	for _, predicate := range policy.GetRetryHostPredicate() {
		service.RetryHostPredicate = append(service.RetryHostPredicate, &corev3.RetryPolicy_RetryHostPredicate{
			Name: predicate.GetName(), ConfigType: &corev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: predicate.GetTypedConfig()},
		})
	}
	return service
}

// TestRetriesOfThePage: the lines that docs/compatibility.md gives to an older Envoy are those that the tests run with it.
func TestRetriesOfThePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "  ```yaml\n")
	lines, _, found := strings.Cut(rest, "  ```\n")
	if !found {
		t.Fatal("the page has no lines of YAML")
	}
	const service = "                      grpc_service:\n"
	before, after, found := strings.Cut(string(envoy.Shipped()), service)
	if !found {
		t.Fatal("envoy.yaml has no grpc_service there")
	}
	// The page's grpc_service in the place of the file's, whose lines are further in.
	for strings.HasPrefix(after, "                        ") {
		_, after, _ = strings.Cut(after, "\n")
	}
	var indented strings.Builder
	for line := range strings.Lines(lines) {
		indented.WriteString(strings.Repeat(" ", 20) + line)
	}
	bootstrap, err := typed.Parse([]byte(before + indented.String() + after))
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := typed.Parse(envoy.Shipped())
	if err != nil {
		t.Fatal(err)
	}
	want, got := checkOf(t, shipped).GetGrpcService(), checkOf(t, bootstrap).GetGrpcService()
	policy, err := takeRetries(shipped, want.GetEnvoyGrpc().GetClusterName())
	if err != nil {
		t.Fatal(err)
	}
	want.RetryPolicy = inService(policy, want.GetTimeout())
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(- envoy.yaml, + the page)\n%s", diff)
	}
}

// checkOf is the filter that asks sessiongate.
func checkOf(t *testing.T, bootstrap *bootstrapv3.Bootstrap) *extauthzv3.ExtAuthz {
	t.Helper()
	check := new(extauthzv3.ExtAuthz)
	err := typed.EditConnectionManager(bootstrap, "ingress", func(manager *hcmv3.HttpConnectionManager) error {
		for _, filter := range manager.GetHttpFilters() {
			if filter.GetTypedConfig().MessageIs(check) {
				return filter.GetTypedConfig().UnmarshalTo(check)
			}
		}
		return errors.New("there is no ext_authz filter")
	})
	if err != nil {
		t.Fatal(err)
	}
	return check
}

// ofEnvoy are the tests that ask something of Envoy itself: what it lets through, removes, refuses, repeats and passes on. Tests of the engine
// behind it, of browsers and of control planes would say the same of each Envoy.
var ofEnvoy = []string{
	"TestDeadCheckLetsNothingThrough", "TestRoutesWithoutCheck", "TestAmbiguousRequestsAreRefused", "TestClientsCannotClaimAnIdentity",
	"TestOnlyEnvoySpeaksCORS", "TestCheckMayOnlyChangeOurHeaders", "TestGoneReplicaDeniesNoRequest", "TestHangingCheckIsAnOutage",
	"TestDenialsArriveAsTheCheckWroteThem", "TestWebSocketsAreCheckedAtTheUpgrade", "TestDenialsCannotSmuggleHeaders",
	"TestCheckIsAskedWithWhatItReads", "TestAccessLogNamesTheUserAndNoSecret", "TestOpenRoutes", "TestCheckHasTime", "TestIdleConnectionsOfTheApp",
	"TestClientsCannotNameHeadersHopByHop", "TestSocketsOverHTTP2", "TestAuthPathAnswersInOneForm", "TestOwnRefusalsAreUntouched",
	"TestDoctorOutside", "TestDoctorEcho", "TestUnansweredAuthPath", "TestTwoHosts", "TestHeaderRoom", "TestHeaderRoomBeforeTheCheck",
	"TestRefresh", "TestEnding", "TestRequestForgery", "TestSignedIn", "TestStrippedCookies", "TestRoutesTable", "TestAccessLogSaysWhy",
	"TestOwnSessions", "TestOutage", "TestReadmeCheckIt", "TestTLS", "TestStandaloneGuide",
}

// TestEnvoys runs the tests of ofEnvoy, the doctor's among them, with each other version, and finds each as docs/compatibility.md has it.
// make envoys runs it: it fetches 350 MB and takes about half an hour.
func TestEnvoys(t *testing.T) {
	if os.Getenv(envoysEnv) == "" {
		t.Skip("make envoys runs it")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range envoyrun.Others() {
		t.Run(version, func(t *testing.T) {
			binary, err := envoyrun.Other(t.Context(), version, os.Stderr)
			if err != nil {
				t.Fatal(err)
			}
			row := "as shipped"
			err = envoyrun.Validate(t.Context(), binary, envoy.Shipped())
			switch {
			case !withoutClusterRetries(version):
				if err != nil {
					t.Errorf("envoy.yaml: %v", err)
				}
			case err == nil || !strings.Contains(err.Error(), "'retry_policy'"):
				t.Errorf("envoy.yaml: %v, want a refusal of retry_policy", err)
			default:
				row = "with lines moved"
			}
			if !strings.Contains(string(page), fmt.Sprintf("| %s | %s |", version, row)) {
				t.Errorf("docs/compatibility.md does not say that %s works %s", version, row)
			}
			// A process of its own: the environment is read by tests that run in parallel.
			tests := exec.CommandContext(t.Context(), self, "-test.v", "-test.shuffle=on", "-test.run=^("+strings.Join(ofEnvoy, "|")+")$")
			tests.Env = append(os.Environ(), envoyrun.BinaryEnv+"="+binary, envoyrun.OtherEnv+"="+version, envoysEnv+"=")
			output, err := tests.CombinedOutput()
			for _, name := range ofEnvoy {
				if !strings.Contains(string(output), "\n--- PASS: "+name+" (") {
					t.Errorf("%s does not pass", name)
				}
			}
			if err != nil {
				log := filepath.Join(os.TempDir(), "sessiongate-envoy-"+version+".log")
				t.Errorf("%v; the log is %s, %v", err, log, os.WriteFile(log, output, 0o600))
			}
		})
	}
}
