// Package handover makes the methods Save and Restore of a service part of its
// component. Import it for that effect, beside package ron:
//
//	import _ "ron/handover"
package handover

import "ron/internal/service"

func init() { service.Handover = true }
