package ron

import (
	"context"
	"log/slog"
	"strings"

	"ron/internal/host"
)

// logger sends the records of log/slog to the host. Every level passes: the host
// filters, so that a level can change while the service runs.
type logger struct {
	group  string // "" or ends in a dot
	fields []host.Pair
}

// Set before the author's own init functions run, which may log too. Outside a host
// the standard logger stays.
func useLogger() { slog.SetDefault(slog.New(&logger{})) }

func (l *logger) Enabled(context.Context, slog.Level) bool { return true }

func (l *logger) Handle(_ context.Context, record slog.Record) error {
	fields := l.fields[:len(l.fields):len(l.fields)]
	record.Attrs(func(a slog.Attr) bool {
		fields = appendAttr(fields, l.group, a)
		return true
	})
	host.Current().Log(level(record.Level), strings.TrimSuffix(record.Message, "\n"), fields)
	return nil
}

func (l *logger) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := l.fields[:len(l.fields):len(l.fields)]
	for _, a := range attrs {
		fields = appendAttr(fields, l.group, a)
	}
	return &logger{l.group, fields}
}

func (l *logger) WithGroup(name string) slog.Handler {
	if name == "" {
		return l
	}
	return &logger{l.group + name + ".", l.fields}
}

// appendAttr spells a group as a prefix of the names inside it.
func appendAttr(fields []host.Pair, prefix string, a slog.Attr) []host.Pair {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range value.Group() {
			fields = appendAttr(fields, prefix, inner)
		}
		return fields
	}
	if a.Key == "" {
		return fields
	}
	return append(fields, host.Pair{Name: prefix + a.Key, Value: value.String()})
}

func level(l slog.Level) uint32 {
	switch {
	case l < slog.LevelDebug:
		return host.Trace
	case l < slog.LevelInfo:
		return host.Debug
	case l < slog.LevelWarn:
		return host.Info
	case l < slog.LevelError:
		return host.Warn
	default:
		return host.Error
	}
}
