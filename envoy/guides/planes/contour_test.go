package planes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/sessiongate/sessiongate/envoy/guides/planes/apiserver"
	"github.com/sessiongate/sessiongate/envoy/guides/planes/tool"
)

// patience is for a loaded machine.
const patience = 2 * time.Minute

// TestContour runs Contour on a real Kubernetes API, applies the manifests to that, and takes what Contour sends to its Envoys. Each object must
// be valid.
func TestContour(t *testing.T) {
	t.Parallel()
	version, err := tool.Contour.Version()
	if err != nil {
		t.Fatal(err)
	}
	r := record{header: header{Plane: "Contour", Version: version}}
	program, err := tool.Contour.Binary(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	source, err := tool.Contour.Dir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	definitions, err := os.ReadFile(filepath.Join(source, "examples/contour/01-crds.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	server, err := apiserver.Start(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)

	texts, err := r.readAll("kubernetes/namespace.yaml", "kubernetes/service.yaml", "contour/extension.yaml", "contour/proxies.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all, err := objects(append([]string{string(definitions), surroundings}, texts...)...)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := selfSigned("app.example.com")
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, pair.secret("ingress", "app-example-com"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.Apply(ctx, all, false); err != nil {
		t.Fatal(err)
	}
	ctx, xds := startContour(ctx, t, program, server.Kubeconfig)

	for _, o := range all {
		if version, _ := o["apiVersion"].(string); !strings.HasPrefix(version, "projectcontour.io/") {
			continue
		}
		await(ctx, t, func() error {
			now, err := server.Get(ctx, o)
			if err != nil {
				return err
			}
			said := errors.New("no condition yet")
			conditions(now["status"], func(kind, status, _ string) {
				if kind == "Valid" {
					said = nil
					if status != "True" {
						said = fmt.Errorf("it is not valid: %v", now["status"])
					}
				}
			})
			if said != nil {
				return fmt.Errorf("%s: %w", nameOf(o), said)
			}
			return nil
		})
	}
	g, err := subscribe(ctx, xds)
	if err != nil {
		t.Fatal(err)
	}
	if r.Bootstrap, err = g.bootstrap(); err != nil {
		t.Fatal(err)
	}
	steady(r.Bootstrap)
	if err := r.keep("contour.yaml", recording()); err != nil {
		t.Error(err)
	}
}

// secretName is how Contour names a secret: with a digest of the certificate, which is another one in each run.
var secretName = regexp.MustCompile(`^(ingress/app-example-com)/[0-9a-f]{10}$`)

// steady removes that digest from a tree.
func steady(tree any) {
	switch tree := tree.(type) {
	case object:
		for key, value := range tree {
			if text, ok := value.(string); ok {
				tree[key] = secretName.ReplaceAllString(text, "$1")
			}
			steady(value)
		}
	case []any:
		for _, value := range tree {
			steady(value)
		}
	}
}

// startContour returns the address of Contour's xDS, which may not answer yet, and a context that ends with Contour.
func startContour(ctx context.Context, t *testing.T, program, kubeconfig string) (_ context.Context, xds string) {
	t.Helper()
	arguments := []string{"serve", "--kubeconfig", kubeconfig, "--insecure", "--disable-leader-election"}
	for _, listener := range []string{"xds", "http", "health", "debug-http"} {
		address, err := apiserver.FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		host, port, _ := strings.Cut(address, ":")
		arguments = append(arguments, "--"+listener+"-address", host, "--"+listener+"-port", port)
		if listener == "xds" {
			xds = address
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	command := exec.CommandContext(ctx, program, arguments...)
	log, err := os.Create(filepath.Join(t.TempDir(), "contour.log"))
	if err != nil {
		t.Fatal(err)
	}
	command.Stdout, command.Stderr = log, log
	tool.EndWithParent(command)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cancel(fmt.Errorf("contour ended: %w", command.Wait()))
		close(exited)
	}()
	t.Cleanup(func() {
		cancel(nil)
		<-exited
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("--- contour\n%s", text[max(0, len(text)-8000):])
		}
		_ = log.Close()
	})
	return ctx, xds
}

// subscribe asks a control plane for all that an Envoy would, once.
func subscribe(ctx context.Context, address string) (generated, error) {
	var g generated
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return g, fmt.Errorf("asking for configuration: %w", err)
	}
	defer func() { _ = connection.Close() }()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(connection).StreamAggregatedResources(ctx, grpc.WaitForReady(true))
	if err != nil {
		return g, fmt.Errorf("asking for configuration: %w", err)
	}
	if g.listeners, err = fetch(stream, nil, func() *listenerv3.Listener { return new(listenerv3.Listener) }); err != nil {
		return g, err
	}
	if g.clusters, err = fetch(stream, nil, func() *clusterv3.Cluster { return new(clusterv3.Cluster) }); err != nil {
		return g, err
	}
	var routes, endpoints []string
	for _, listener := range g.listeners {
		names, err := asked(listener)
		if err != nil {
			return g, err
		}
		routes = append(routes, names...)
	}
	for _, cluster := range g.clusters {
		if name := cluster.GetEdsClusterConfig().GetServiceName(); name != "" {
			endpoints = append(endpoints, name)
		}
	}
	slices.Sort(routes)
	slices.Sort(endpoints)
	if g.routes, err = fetch(stream, slices.Compact(routes), func() *routev3.RouteConfiguration { return new(routev3.RouteConfiguration) }); err != nil {
		return g, err
	}
	g.endpoints, err = fetch(stream, slices.Compact(endpoints), func() *endpointv3.ClusterLoadAssignment { return new(endpointv3.ClusterLoadAssignment) })
	return g, err
}

// fetch asks for resources of one type, by their names or for all, and takes the first answer.
func fetch[M proto.Message](stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient, names []string, empty func() M) (all []M, err error) {
	kind := "type.googleapis.com/" + string(empty().ProtoReflect().Descriptor().FullName())
	request := &discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: "recording", Cluster: "recording"}, TypeUrl: kind, ResourceNames: names}
	if err := stream.Send(request); err != nil {
		return nil, fmt.Errorf("asking for %s: %w", kind, err)
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("asking for %s: %w", kind, err)
		}
		if answer.GetTypeUrl() != kind { // an update of what came before
			continue
		}
		for _, packed := range answer.GetResources() {
			err = unpack(&all, packed, empty(), err)
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", kind, err)
		}
		return all, nil
	}
}

// await calls look until it has no error.
func await(ctx context.Context, t *testing.T, look func() error) {
	t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := look()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
