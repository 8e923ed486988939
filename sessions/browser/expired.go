package browser

import "net/http"

// AllowedExpired says which statuses [CanMeanExpired] takes.
const AllowedExpired = "400 to 499 but for 403, 404, 405, 409, 413 and 429, which mean something else to clients"

// CanMeanExpired says whether a status may tell clients that their session has expired or
// ended: clients must not take it for something else.
func CanMeanExpired(status int) bool {
	switch status {
	case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusConflict,
		http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return false
	}
	return status >= 400 && status <= 499
}
