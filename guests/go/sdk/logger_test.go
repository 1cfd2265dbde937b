package ron

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"ron/internal/host"
)

type ear struct {
	host.Host
	heard []string
}

func (e *ear) Log(level uint32, message string, fields []host.Pair) {
	e.heard = append(e.heard, fmt.Sprint(level, " ", message, " ", fields))
}

func TestRecordsKeepLevelAndFields(t *testing.T) {
	e := &ear{}
	host.Use(e)
	defer host.Use(nil)

	log := slog.New(&logger{})
	log.Info("low", "left", 3, slog.Group("shelf", "row", 1, slog.Group("", "side", "a")))
	order := log.With("order", 7).WithGroup("stock").With("sku", "a1")
	order.Warn("gone", "error", fmt.Errorf("none"))
	order.Error("again")
	log.Log(context.Background(), LevelTrace, "deep")
	log.Debug("shallow")

	want := []string{
		"2 low [{left 3} {shelf.row 1} {shelf.side a}]",
		"3 gone [{order 7} {stock.sku a1} {stock.error none}]",
		"4 again [{order 7} {stock.sku a1}]",
		"0 deep []",
		"1 shallow []",
	}
	if !slices.Equal(e.heard, want) {
		t.Errorf("got %q", e.heard)
	}
}
