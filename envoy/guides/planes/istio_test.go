package planes

import (
	"testing"

	_ "istio.io/api/label"
	"istio.io/istio/pilot/test/xds"
	_ "istio.io/istio/pilot/pkg/config/kube/crd"
	_ "istio.io/istio/pkg/config/validation"
	_ "istio.io/istio/pkg/config/schema/collections"
	_ "istio.io/istio/pkg/config/mesh"
)

func TestIstio(t *testing.T) { _ = xds.NewFakeDiscoveryServer }
