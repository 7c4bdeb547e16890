// What the Prometheus operator makes of monitors, and what Prometheus finds by that: the scrape configuration and the active targets.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"math"
	"net/http"
	"os"
	"sync"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus-operator/prometheus-operator/pkg/assets"
	operator "github.com/prometheus-operator/prometheus-operator/pkg/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	_ "github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	corev1 "k8s.io/api/core/v1"
)

// Monitors that the operator would refuse are not given to its generator, which trusts its caller.
const monitors = "?labelSelector=peer!=none"

var (
	address, server, token, role = os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	client                       = http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
)

func list[T any](path string) ([]*T, error) {
	request, err := http.NewRequest("GET", server+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, answer.Status)
	}
	var all struct{ Items []*T }
	return all.Items, json.NewDecoder(answer.Body).Decode(&all)
}

// The configuration for what is in the API now.
func generate() ([]byte, error) {
	services, err := list[monitoringv1.ServiceMonitor]("/apis/monitoring.coreos.com/v1/servicemonitors" + monitors)
	if err != nil {
		return nil, err
	}
	pods, err := list[monitoringv1.PodMonitor]("/apis/monitoring.coreos.com/v1/podmonitors" + monitors)
	if err != nil {
		return nil, err
	}
	secrets, err := list[corev1.Secret]("/api/v1/secrets")
	if err != nil {
		return nil, err
	}
	maps, err := list[corev1.ConfigMap]("/api/v1/configmaps")
	if err != nil {
		return nil, err
	}
	var held []any
	for _, secret := range secrets {
		held = append(held, secret)
	}
	for _, configMap := range maps {
		held = append(held, configMap)
	}
	serviceMonitors := map[string]*monitoringv1.ServiceMonitor{}
	for _, monitor := range services {
		serviceMonitors[monitor.Namespace+"/"+monitor.Name] = monitor
	}
	podMonitors := map[string]*monitoringv1.PodMonitor{}
	for _, monitor := range pods {
		podMonitors[monitor.Namespace+"/"+monitor.Name] = monitor
	}
	yes, flavor := true, monitoringv1.ServiceDiscoveryRole(role)
	resource := &monitoringv1.Prometheus{}
	resource.Namespace, resource.Spec.Version = "monitoring", "v3.8.0"
	resource.Spec.ScrapeInterval, resource.Spec.ScrapeTimeout, resource.Spec.EvaluationInterval = "60s", "10s", "60s"
	resource.Spec.ServiceDiscoveryRole = &flavor
	resource.Spec.APIServerConfig = &monitoringv1.APIServerConfig{
		Host: server, BearerToken: token,
		TLSConfig: &monitoringv1.TLSConfig{SafeTLSConfig: monitoringv1.SafeTLSConfig{InsecureSkipVerify: &yes}},
	}
	generator, err := operator.NewConfigGenerator(nil, resource, operator.WithEndpointSliceSupport(), operator.WithInlineTLSConfig())
	if err != nil {
		return nil, err
	}
	return generator.GenerateServerConfiguration(resource, serviceMonitors, podMonitors, nil, nil, assets.NewTestStoreBuilder(held...), nil, nil, nil, nil)
}

// A series without a sample for so long is over: those of a job that is gone get no marker.
const patience = 10 * time.Second

// The series that go on.
type memory struct {
	sync.Mutex
	series map[string]seen
}

type seen struct {
	labels map[string]string
	at     time.Time
}

func (m *memory) Appender(context.Context) storage.Appender { return &appender{memory: m} }

type appender struct {
	storage.Appender
	memory *memory
	series []labels.Labels
	ended  []labels.Labels
}

func (*appender) SetOptions(*storage.AppendOptions) {}
func (*appender) Rollback() error                   { return nil }

func (a *appender) Append(_ storage.SeriesRef, series labels.Labels, _ int64, v float64) (storage.SeriesRef, error) {
	if math.Float64bits(v) == value.StaleNaN {
		a.ended = append(a.ended, series)
	} else {
		a.series = append(a.series, series)
	}
	return 0, nil
}

func (a *appender) Commit() error {
	a.memory.Lock()
	defer a.memory.Unlock()
	for _, series := range a.ended {
		delete(a.memory.series, series.String())
	}
	for _, series := range a.series {
		a.memory.series[series.String()] = seen{series.Map(), time.Now()}
	}
	return nil
}

type target struct {
	Job, URL, Interval, Timeout string
	Labels                      map[string]string
}

// ADDRESS API-SERVER TOKEN ROLE
func main() {
	registry := prometheus.NewRegistry()
	metrics, err := discovery.CreateAndRegisterSDMetrics(registry)
	if err != nil {
		log.Fatal(err)
	}
	finder := discovery.NewManager(context.Background(), slog.Default(), registry, metrics, discovery.Updatert(time.Second))
	go func() { log.Fatal(finder.Run()) }()
	memory := &memory{series: map[string]seen{}}
	scraper, err := scrape.NewManager(&scrape.Options{}, slog.Default(), nil, memory, nil, registry)
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(scraper.Run(finder.SyncCh())) }()
	var lock sync.Mutex
	var text []byte
	var trouble error
	go func() {
		for ; ; time.Sleep(time.Second) {
			now, err := generate()
			lock.Lock()
			// The number of the only shard, which a Prometheus' pod has in its environment.
			now = bytes.ReplaceAll(now, []byte("$(SHARD)"), []byte("0"))
			if trouble = err; err == nil && !bytes.Equal(now, text) {
				text, trouble = now, apply(now, finder, scraper)
			}
			lock.Unlock()
		}
	}()
	http.HandleFunc("/config", func(w http.ResponseWriter, _ *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		_, _ = w.Write(text)
	})
	http.HandleFunc("/targets", func(w http.ResponseWriter, _ *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		if trouble != nil {
			http.Error(w, trouble.Error(), http.StatusInternalServerError)
			return
		}
		all := []target{}
		for job, targets := range scraper.TargetsActive() {
			for _, one := range targets {
				all = append(all, target{
					Job: job, URL: one.URL().String(), Interval: one.GetValue("__scrape_interval__"), Timeout: one.GetValue("__scrape_timeout__"),
					Labels: one.Labels(labels.NewBuilder(labels.EmptyLabels())).Map(),
				})
			}
		}
		_ = json.NewEncoder(w).Encode(all)
	})
	http.HandleFunc("/series", func(w http.ResponseWriter, _ *http.Request) {
		memory.Lock()
		defer memory.Unlock()
		all := []map[string]string{}
		for _, series := range memory.series {
			if time.Since(series.at) < patience {
				all = append(all, series.labels)
			}
		}
		_ = json.NewEncoder(w).Encode(all)
	})
	log.Fatal(http.ListenAndServe(address, nil))
}

func apply(text []byte, finder *discovery.Manager, scraper *scrape.Manager) error {
	loaded, err := config.Load(string(text), slog.Default())
	if err != nil {
		return err
	}
	if err := scraper.ApplyConfig(loaded); err != nil {
		return err
	}
	found := map[string]discovery.Configs{}
	for _, one := range loaded.ScrapeConfigs {
		found[one.JobName] = one.ServiceDiscoveryConfigs
	}
	return finder.ApplyConfig(found)
}
