// The discovery of Prometheus itself: what it finds is given as JSON, by role.
package main

import (
	"context"
	"encoding/json"
	"log"
	"log/slog"
	"net/http"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"gopkg.in/yaml.v2"
)

// ADDRESS CONFIG: a list of kubernetes_sd_configs.
func main() {
	text, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	var configs []*kubernetes.SDConfig
	if err := yaml.Unmarshal(text, &configs); err != nil {
		log.Fatal(err)
	}
	var lock sync.Mutex
	found := map[string]map[string][]model.LabelSet{}
	for _, config := range configs {
		registry := prometheus.NewRegistry()
		refresh := discovery.NewRefreshMetrics(registry)
		metrics := config.NewDiscovererMetrics(registry, refresh)
		discoverer, err := config.NewDiscoverer(discovery.DiscovererOptions{
			Logger: slog.Default(), Metrics: metrics,
		})
		if err != nil {
			log.Fatal(err)
		}
		groups := make(chan []*targetgroup.Group)
		role := string(config.Role)
		found[role] = map[string][]model.LabelSet{}
		go discoverer.Run(context.Background(), groups)
		go func() {
			for some := range groups {
				lock.Lock()
				for _, group := range some {
					var targets []model.LabelSet
					for _, target := range group.Targets {
						targets = append(targets, group.Labels.Merge(target))
					}
					found[role][group.Source] = targets
				}
				lock.Unlock()
			}
		}()
	}
	http.HandleFunc("/targets", func(w http.ResponseWriter, _ *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		all := map[string][]model.LabelSet{}
		for role, groups := range found {
			for _, targets := range groups {
				all[role] = append(all[role], targets...)
			}
		}
		_ = json.NewEncoder(w).Encode(all)
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
