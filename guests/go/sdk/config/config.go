// Package config reads this service's own table of the configuration,
// [service.NAME.config].
//
// A call reads the newest values in force. The event ron.ConfigUpdated tells when they
// change.
package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"time"

	"ron/internal/host"
)

// Get returns the value of a key, and whether there is one: a string as it stands,
// any other TOML value as its JSON text.
func Get(key string) (value string, ok bool) { return host.Current().Get(key) }

// Parse returns the value of a key as a T, or fallback where the key is absent.
//
//	retries, err := config.Parse("retries", 3)
//	pause, err := config.Parse("pause", 5*time.Second) // pause = "250ms"
//	regions, err := config.Parse("regions", []string{"eu"})
//
// T is a string, a [time.Duration], whatever implements [encoding.TextUnmarshaler], or
// what [json.Unmarshal] can fill. The error names key, value and expected type.
func Parse[T any](key string, fallback T) (T, error) {
	value, ok := Get(key)
	if !ok {
		return fallback, nil
	}
	var parsed T
	if err := parse(value, &parsed); err != nil {
		return fallback, fmt.Errorf("config %q: expected %T, found %q (%w)", key, parsed, value, err)
	}
	return parsed, nil
}

func parse(value string, into any) (err error) {
	switch into := into.(type) {
	case *string:
		*into = value
	case *time.Duration:
		*into, err = time.ParseDuration(value)
	case encoding.TextUnmarshaler:
		err = into.UnmarshalText([]byte(value))
	default:
		err = json.Unmarshal([]byte(value), into)
	}
	return err
}

// Entries returns all keys and their values, as [Get] does.
func Entries() map[string]string {
	pairs := host.Current().Entries()
	entries := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		entries[pair.Name] = pair.Value
	}
	return entries
}

// Version is monotonic; it grows by at least one with each applied change.
func Version() uint64 { return host.Current().Version() }
