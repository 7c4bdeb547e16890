//! The components that Alloy has: a configuration that uses one of them and is refused here has no slip of the finger.

use super::suggest::did_you_mean;

/// By namespace, without it. Those that are here, too, are found before anybody asks.
const COMPONENTS: &[(&str, &str)] = &[
    ("beyla", "ebpf"),
    ("database_observability", "mssql mysql postgres"),
    (
        "discovery",
        "aws azure consul consulagent digitalocean dns docker dockerswarm ec2 eureka file gce hetzner http ionos \
         kubelet kubernetes kuma lightsail linode marathon nerve nomad openstack ovhcloud process puppetdb relabel \
         scaleway serverset triton uyuni",
    ),
    ("faro", "receiver"),
    ("local", "file file_match"),
    (
        "loki",
        "echo enrich process relabel rules.kubernetes secretfilter source.api source.awsfirehose \
         source.azure_event_hubs source.cloudflare source.docker source.file source.gcplog source.gelf source.heroku \
         source.journal source.kafka source.kubernetes source.kubernetes_events source.podlogs source.syslog \
         source.windowsevent write",
    ),
    ("mimir", "alerts.kubernetes rules.kubernetes"),
    (
        "otelcol",
        "auth.basic auth.bearer auth.google auth.headers auth.oauth2 auth.sigv4 connector.count connector.host_info \
         connector.servicegraph connector.spanlogs connector.spanmetrics exporter.awss3 exporter.clickhouse \
         exporter.datadog exporter.debug exporter.faro exporter.file exporter.googlecloud exporter.googlecloudpubsub \
         exporter.kafka exporter.loadbalancing exporter.logging exporter.loki exporter.otlp exporter.otlphttp \
         exporter.prometheus exporter.splunkhec exporter.syslog extension.jaeger_remote_sampling processor.attributes \
         processor.batch processor.cumulativetodelta processor.deltatocumulative processor.discovery processor.filter \
         processor.groupbyattrs processor.interval processor.k8sattributes processor.memory_limiter \
         processor.metric_start_time processor.probabilistic_sampler processor.resourcedetection processor.span \
         processor.tail_sampling processor.transform receiver.awscloudwatch receiver.awsecscontainermetrics \
         receiver.awss3 receiver.cloudflare receiver.datadog receiver.faro receiver.file_stats receiver.filelog \
         receiver.fluentforward receiver.googlecloudpubsub receiver.influxdb receiver.jaeger receiver.kafka \
         receiver.loki receiver.opencensus receiver.otlp receiver.prometheus receiver.solace receiver.splunkhec \
         receiver.syslog receiver.tcplog receiver.vcenter receiver.zipkin storage.file",
    ),
    (
        "prometheus",
        "echo enrich exporter.apache exporter.azure exporter.blackbox exporter.cadvisor exporter.catchpoint \
         exporter.cloudwatch exporter.consul exporter.databricks exporter.dnsmasq exporter.elasticsearch exporter.gcp \
         exporter.github exporter.kafka exporter.memcached exporter.mongodb exporter.mssql exporter.mysql \
         exporter.oracledb exporter.postgres exporter.process exporter.redis exporter.self exporter.snmp \
         exporter.snowflake exporter.squid exporter.static exporter.statsd exporter.unix exporter.windows \
         operator.podmonitors operator.probes operator.scrapeconfigs operator.servicemonitors receive_http relabel \
         remote_write scrape write.queue",
    ),
    ("pyroscope", "ebpf enrich java receive_http relabel scrape write"),
    ("remote", "http kubernetes.configmap kubernetes.secret s3 vault"),
];

/// Whether Alloy has a component of this name.
pub fn known_elsewhere(name: &str) -> bool {
    let (namespace, rest) = name.split_once('.').unwrap_or((name, ""));
    COMPONENTS.iter().any(|(known, names)| *known == namespace && names.split(' ').any(|name| name == rest))
}

/// What to say about a component that is not among `ours`: the message, and a hint.
pub fn unknown_component(name: &str, ours: &[&str]) -> (String, String) {
    let listed = |names: &[&str]| names.join(", ");
    if !known_elsewhere(name) {
        let message = format!("cannot find the definition of component name \"{name}\"");
        let near = did_you_mean(name, ours.iter().copied());
        return (message, near.unwrap_or_else(|| format!("components here: {}", listed(ours))));
    }
    let feature = match name {
        "discovery.kubernetes"
        | "loki.source.kubernetes"
        | "loki.source.kubernetes_events"
        | "prometheus.operator.podmonitors"
        | "prometheus.operator.servicemonitors" => "kubernetes",
        _ if name.starts_with("otelcol.") && !cfg!(feature = "otelcol") => "otelcol",
        _ => "",
    };
    if !feature.is_empty() {
        let message = format!(
            "component \"{name}\" is not in this build, which was made without the feature \"{feature}\""
        );
        return (message, format!("components here: {}", listed(ours)));
    }
    let message = format!("component \"{name}\" is known to Alloy but not supported here");
    // A neighbour has the namespace and perhaps more in common: `loki.source` before `loki`.
    let shared = |other: &&str| name.split('.').zip(other.split('.')).take_while(|(a, b)| a == b).count();
    let most = ours.iter().map(shared).max().unwrap_or(0);
    let near: Vec<&str> = ours.iter().copied().filter(|other| most > 0 && shared(other) == most).collect();
    let hint = if near.is_empty() {
        format!("components here: {}", listed(ours))
    } else {
        format!("near it are {}", listed(&near))
    };
    (message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [&str; 4] = ["discovery.file", "loki.source.file", "loki.write", "prometheus.scrape"];

    #[test]
    fn what_alloy_has_is_no_slip_of_the_finger() {
        let check = |name: &str, message: &str, hint: &str| {
            assert_eq!(unknown_component(name, &OURS), (message.to_owned(), hint.to_owned()), "{name}");
        };
        check(
            "loki.source.syslog",
            "component \"loki.source.syslog\" is known to Alloy but not supported here",
            "near it are loki.source.file",
        );
        check(
            "discovery.ec2",
            "component \"discovery.ec2\" is known to Alloy but not supported here",
            "near it are discovery.file",
        );
        check(
            "faro.receiver",
            "component \"faro.receiver\" is known to Alloy but not supported here",
            "components here: discovery.file, loki.source.file, loki.write, prometheus.scrape",
        );
        check(
            "prometheus.scrap",
            "cannot find the definition of component name \"prometheus.scrap\"",
            "did you mean \"prometheus.scrape\"?",
        );
        check(
            "nothing",
            "cannot find the definition of component name \"nothing\"",
            "components here: discovery.file, loki.source.file, loki.write, prometheus.scrape",
        );
    }

    #[test]
    fn the_table_has_every_name_once() {
        let names =
            || COMPONENTS.iter().flat_map(|(space, names)| names.split(' ').map(move |name| (space, name)));
        let distinct: std::collections::BTreeSet<_> = names().collect();
        assert_eq!(distinct.len(), names().count());
        assert!(names().all(|(space, name)| known_elsewhere(&format!("{space}.{name}"))));
        assert!(!known_elsewhere("loki") && !known_elsewhere("loki."));
    }
}
