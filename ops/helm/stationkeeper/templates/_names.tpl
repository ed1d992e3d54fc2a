{{/* What objects are called, by which labels they are found, and the configuration that all roles read. */}}

{{- define "stationkeeper.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- /* 52: the hash that a StatefulSet's pods carry as a label is added to the name and must fit in 63. */ -}}
{{- default (ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name)) .Values.fullnameOverride | trunc 42 | trimSuffix "-" -}}
{{- end -}}

{{- define "stationkeeper.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "stationkeeper.labels" -}}
{{ include "stationkeeper.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "stationkeeper.account" -}}
{{- default (ternary (include "stationkeeper.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "stationkeeper.serveUrl" -}}
{{- $config := .Values.config -}}
{{- $scheme := ternary "https" "http" (hasKey (default dict $config.http) "tls") -}}
{{- printf "%s://%s-serve:%d" $scheme (include "stationkeeper.fullname" .) (int (default 8080 (default dict $config.serve).port)) -}}
{{- end -}}

{{- define "stationkeeper.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $http := default dict $config.http -}}
{{- $scheme := ternary "https" "http" (hasKey $http "tls") -}}
{{- $name := include "stationkeeper.fullname" . -}}
{{- $made := dict "host" "0.0.0.0" "monitor" 9101 "retrain" 9102 "deploy" 9103 -}}
{{- if not (or $http.callers $http.tls) -}}
{{- /* The word that an open port needs: the NetworkPolicy says who may connect. */ -}}
{{- $_ := set $made "unprotected" true -}}
{{- end -}}
{{- $ports := mergeOverwrite (deepCopy $made) $http -}}
{{- $peers := dict -}}
{{- range $index := until (int (ternary .Values.keda.minReplicas .Values.monitor.replicas .Values.keda.enabled)) -}}
{{- $_ := set $peers (printf "monitor-%d" $index) (printf "%s://%s-monitor-%d.%s-monitor:%d" $scheme $name $index $name (int $ports.monitor)) -}}
{{- end -}}
{{- range $role := list "retrain" "deploy" -}}
{{- if (index $.Values $role).enabled -}}
{{- $_ := set $peers $role (printf "%s://%s-%s:%d" $scheme $name $role (int (index $ports $role))) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $made "peers" $peers -}}
{{- $base := dict "http" $made "serve" (dict "host" "0.0.0.0" "port" 8080) "snapshots" (dict "directory" "/var/lib/stationkeeper/snapshots") -}}
{{- if .Values.serve.enabled -}}
{{- $_ := set $base "targets" (list (dict "kind" "router" "url" (include "stationkeeper.serveUrl" .))) -}}
{{- if $config.targets -}}
{{- /* A port answers to the names in the configuration alone, and with targets of your own its name may be in none. */ -}}
{{- $_ := set $config "http" (merge (dict "allowed_hosts" (append (default list $http.allowed_hosts) (printf "%s-serve" $name))) $http) -}}
{{- end -}}
{{- end -}}
{{- if not $config.models -}}
{{- fail "config.models is empty: name at least one model, as in config: {models: {fraud: {predictions: fraud.predictions}}}" -}}
{{- end -}}
{{- if not (default dict $config.kafka).bootstrap -}}
{{- fail "config.kafka.bootstrap is not set: write the address of your Kafka, as in config: {kafka: {bootstrap: \"kafka:9092\"}}" -}}
{{- end -}}
{{- if and (or .Values.retrain.enabled .Values.deploy.enabled .Values.serve.enabled) (not (default dict $config.registry).tracking_uri) -}}
{{- fail "config.registry.tracking_uri is not set: retrain, deploy and serve share an MLflow, as in config: {registry: {tracking_uri: \"http://mlflow:5000\"}}; the monitor alone needs none (retrain.enabled, deploy.enabled and serve.enabled: false)" -}}
{{- end -}}
{{- toYaml (mergeOverwrite $base $config) -}}
{{- end -}}

{{- define "stationkeeper.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "w" 604800000 -}}
{{- if not (kindIs "string" .) -}}
{{- /* A number is milliseconds. Its text is not looked at: helm writes a large one as 7.2e+06. */ -}}
{{- int64 . -}}
{{- else if not (regexMatch "^ *[0-9]+([.][0-9]+)? *(ms|s|m|h|d|w) *$" .) -}}
{{- fail (printf "%q is not a duration: write a number and one of ms, s, m, h, d, w, as in 30d" .) -}}
{{- else -}}
{{- printf "%.0f" (mulf (float64 (regexFind "[0-9.]+" .)) (float64 (index $units (regexFind "[a-z]+" .)))) -}}
{{- end -}}
{{- end -}}

