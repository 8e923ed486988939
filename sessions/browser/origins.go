package browser

import (
	"errors"
	"fmt"
)

// ParseOrigins reads a setting's list of origins. Its error names every text that is none.
func ParseOrigins(texts []string) ([]Origin, error) {
	origins := make([]Origin, len(texts))
	var faults []error
	for i, text := range texts {
		var ok bool
		if origins[i], ok = ParseOrigin(text); !ok {
			faults = append(faults, fmt.Errorf("AllowedOrigins: %q is no origin", text))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return origins, nil
}
