{{/* Values that contradict each other: a sentence says what to do instead. */}}

{{- define "alloy.check" -}}
{{- $alloy := .Values.alloy -}}
{{- $controller := .Values.controller -}}
{{- $type := $controller.type -}}
{{- $horizontal := include "alloy.autoscaling" . | fromYaml -}}
{{- $budget := $controller.podDisruptionBudget -}}
{{- if and $controller.volumeClaimTemplates (ne $type "statefulset") -}}
  {{- fail (printf "controller.volumeClaimTemplates needs controller.type=statefulset, and it is %s: a claim per pod is a StatefulSet's; else mount one by controller.volumes.extra and alloy.mounts.extra" $type) -}}
{{- end -}}
{{- if and (eq $type "daemonset") (include "alloy.isScaled" .) -}}
  {{- fail "controller.autoscaling.horizontal needs controller.type=statefulset or deployment: a DaemonSet has one pod on each node" -}}
{{- end -}}
{{- if and (eq $type "daemonset") $budget.enabled -}}
  {{- fail "controller.podDisruptionBudget needs controller.type=statefulset or deployment: draining a node does not evict a DaemonSet's pod" -}}
{{- end -}}
{{- if not (or (kindIs "invalid" $budget.minAvailable) (kindIs "invalid" $budget.maxUnavailable)) -}}
  {{- fail "controller.podDisruptionBudget has minAvailable and maxUnavailable: Kubernetes takes one of them" -}}
{{- end -}}
{{- if $horizontal.enabled -}}
  {{- if $horizontal.externalHPA -}}
    {{- fail "controller.autoscaling.horizontal: `enabled` makes an autoscaler, `externalHPA` says that another one is there; set one of them" -}}
  {{- end -}}
  {{- if not (or $horizontal.targetCPUUtilizationPercentage $horizontal.targetMemoryUtilizationPercentage) -}}
    {{- fail "controller.autoscaling.horizontal needs targetCPUUtilizationPercentage or targetMemoryUtilizationPercentage" -}}
  {{- end -}}
  {{- if gt (int $horizontal.minReplicas) (int $horizontal.maxReplicas) -}}
    {{- fail "controller.autoscaling.horizontal: minReplicas is above maxReplicas" -}}
  {{- end -}}
  {{- $requests := dig "requests" dict $alloy.resources -}}
  {{- range $name, $percent := dict "cpu" $horizontal.targetCPUUtilizationPercentage "memory" $horizontal.targetMemoryUtilizationPercentage -}}
    {{- if and $percent (not (hasKey $requests $name)) -}}
      {{- fail (printf "controller.autoscaling.horizontal looks at %s in percent of the request: set alloy.resources.requests.%s" $name $name) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if hasSuffix "grafana/alloy" .Values.image.repository -}}
  {{- fail "image.repository=grafana/alloy is Grafana Alloy's image, another program with other arguments: leave it out, or name your own" -}}
{{- end -}}
{{- if and (not $alloy.configMap.create) (not $alloy.configMap.name) -}}
  {{- fail "alloy.configMap.create=false needs alloy.configMap.name: the ConfigMap that is there" -}}
{{- end -}}
{{- if and (not $alloy.configMap.create) (or $alloy.configMap.content $alloy.configMap.files) -}}
  {{- fail "alloy.configMap.create=false and alloy.configMap.content or .files: the ConfigMap that is there has its own content" -}}
{{- end -}}
{{- if and $alloy.configMap.create (hasKey $alloy.configMap.files ($alloy.configMap.key | default "config.alloy")) -}}
  {{- fail "alloy.configMap.files has the name of the configuration itself: put its text into alloy.configMap.content" -}}
{{- end -}}
{{- if and $alloy.configMap.create $alloy.configMap.folder (not (include "alloy.files" . | fromYaml)) -}}
  {{- fail "alloy.configMap.folder needs alloy.configMap.files or .content" -}}
{{- end -}}
{{- if and $alloy.clustering.keysSecret.name (not $alloy.clustering.enabled) -}}
  {{- fail "alloy.clustering.keysSecret needs alloy.clustering.enabled=true" -}}
{{- end -}}
{{- if and $alloy.storage.hostPath (ne $type "daemonset") -}}
  {{- fail (printf "alloy.storage.hostPath needs controller.type=daemonset, and it is %s: two pods on a node would use one folder" $type) -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not (and .Values.service.enabled $alloy.enableHttpServerPort)) -}}
  {{- fail "serviceMonitor needs service.enabled and alloy.enableHttpServerPort; podMonitor needs no Service" -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled (not $alloy.enableHttpServerPort) -}}
  {{- fail "podMonitor needs alloy.enableHttpServerPort" -}}
{{- end -}}
{{- if .Values.ingress.enabled -}}
  {{- $ports := $alloy.enableHttpServerPort | ternary (list (int $alloy.listenPort)) list -}}
  {{- range $alloy.extraPorts }}{{ $ports = append $ports (int .port) }}{{ end -}}
  {{- if not (and .Values.service.enabled (has (int .Values.ingress.faroPort) $ports)) -}}
    {{- fail (printf "ingress.faroPort=%v is no port of the Service: add it to alloy.extraPorts, or take alloy.listenPort" .Values.ingress.faroPort) -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.rbac.namespaces .Values.rbac.clusterRules -}}
  {{- fail "rbac.clusterRules cannot be given in rbac.namespaces: leave one of them out" -}}
{{- end -}}
{{- end }}
