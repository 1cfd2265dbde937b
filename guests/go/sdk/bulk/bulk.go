// Package bulk makes the method OnBatch of a service part of its component. Import it
// for that effect, beside package ron:
//
//	import _ "ron/bulk"
package bulk

import "ron/internal/service"

func init() { service.Bulk = true }
