{{/* What a ServiceMonitor and a PodMonitor say of the endpoint. */}}

{{- define "alloy.monitorEndpoint" -}}
{{- $monitor := index . 1 -}}
- port: http-metrics
  path: /metrics
  honorLabels: true
  scheme: {{ (index . 0).Values.alloy.listenScheme | lower }}
  {{- with $monitor.interval }}
  interval: {{ . }}
  {{- end }}
  {{- with $monitor.tlsConfig }}
  tlsConfig: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $monitor.relabelings }}
  relabelings: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $monitor.metricRelabelings }}
  metricRelabelings: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
