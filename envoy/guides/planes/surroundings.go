package planes

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// surroundings are the objects that the guides take for granted.
//
//go:embed surroundings.yaml
var surroundings string

// object is a Kubernetes object.
type object = map[string]any

// nameOf is what an object is called in a message.
func nameOf(o object) string {
	metadata, _ := o["metadata"].(object)
	return fmt.Sprintf("%v %v/%v", o["kind"], metadata["namespace"], metadata["name"])
}

// objects are the documents of some manifests.
func objects(texts ...string) (all []object, err error) {
	for _, text := range texts {
		for decoder := kubeyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
			var o object
			if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("reading manifest: %w", err)
			}
			if o != nil {
				all = append(all, o)
			}
		}
	}
	return all, nil
}

// addressed gives an address to each Service that has none, as a cluster does.
func addressed(all []object) {
	for i, o := range all {
		if spec, ok := o["spec"].(object); ok && o["kind"] == "Service" && spec["clusterIP"] == nil {
			spec["clusterIP"] = "10.96.1." + strconv.Itoa(i)
		}
	}
}
