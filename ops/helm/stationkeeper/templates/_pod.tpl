{{/* The pod of a role; called with (dict "root" $ "role" "monitor"). */}}
{{- define "stationkeeper.pod" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $values := index $root.Values $role -}}
{{- $name := include "stationkeeper.fullname" $root -}}
{{- $config := include "stationkeeper.config" $root | fromYaml -}}
{{- $port := int (eq $role "serve" | ternary $config.serve.port (index $config.http $role)) -}}
{{- $scheme := ternary "HTTPS" "HTTP" (hasKey $config.http "tls") -}}
{{- $strimzi := $root.Values.strimzi -}}
{{- $drain := 20 -}}
{{- if $config.drain -}}
{{- $drain = div (int64 (include "stationkeeper.milliseconds" $config.drain)) 1000 -}}
{{- end -}}
{{- if lt (int $root.Values.terminationGracePeriodSeconds) (int (add $drain $values.preStopSeconds 8)) -}}
{{- fail (printf "terminationGracePeriodSeconds is %v, and %s may take %v s: preStopSeconds, config.drain and 8 s to leave" $root.Values.terminationGracePeriodSeconds $role (add $drain $values.preStopSeconds 8)) -}}
{{- end -}}
metadata:
  labels:
    {{- include "stationkeeper.selector" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $role }}
    {{- with $values.pod.labels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # A changed configuration is a rolling restart.
    checksum/config: {{ include "stationkeeper.config" $root | sha256sum }}
    {{- with $values.pod.annotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "stationkeeper.account" $root }}
  automountServiceAccountToken: {{ and (eq $role "deploy") (not (empty $root.Values.deploy.rules)) }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets: {{ range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
  # The pause container is then the first process, so that what a trainer leaves behind is reaped.
  shareProcessNamespace: true
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  {{- if or (eq $role "monitor") (eq $role "serve") }}
  topologySpreadConstraints:
    {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "stationkeeper.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $role }}
    {{- end }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
  {{- with index $values.pod $key }}
  {{ $key }}: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  containers:
    - name: {{ $role }}
      image: {{ printf "%s:%s" (eq $role "monitor" | ternary $root.Values.image.monitor $root.Values.image.full) (default $root.Chart.AppVersion $root.Values.image.tag) | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [{{ $role }}, --config, /etc/stationkeeper/stationkeeper.yaml]
      env:
        # The pod's name is its replica's name on Kafka: no two pods share one.
        - name: STATIONKEEPER__KAFKA__INSTANCE
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        {{- if $strimzi.users.enabled }}
        {{- range $key, $value := dict "PROTOCOL" $strimzi.users.protocol "MECHANISM" "SCRAM-SHA-512" "USERNAME" (printf "%s-%s" $name $role) "PASSWORD_FILE" (printf "/run/secrets/%s-%s/password" $name $role) }}
        - name: STATIONKEEPER__KAFKA__SECURITY__{{ $key }}
          value: {{ $value | quote }}
        {{- end }}
        {{- if hasSuffix "SSL" $strimzi.users.protocol }}
        - name: STATIONKEEPER__KAFKA__SECURITY__CA_FILE
          value: /run/secrets/{{ $strimzi.cluster }}-cluster-ca-cert/ca.crt
        {{- end }}
        {{- end }}
        {{- with concat $root.Values.env (default list $values.pod.env) }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- with concat $root.Values.envFrom (default list $values.pod.envFrom) }}
      envFrom: {{ toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - {name: http, containerPort: {{ $port }}, protocol: TCP}
      # A start reads state back from Kafka, which takes its time; ten minutes are for a large one.
      startupProbe: {httpGet: {path: /livez, port: http, scheme: {{ $scheme }}}, periodSeconds: 5, timeoutSeconds: 4, failureThreshold: 120}
      # It asks nothing of Kafka: an outage of the broker must not restart every pod.
      livenessProbe: {httpGet: {path: /livez, port: http, scheme: {{ $scheme }}}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
      readinessProbe: {httpGet: {path: /readyz, port: http, scheme: {{ $scheme }}}, periodSeconds: 5, timeoutSeconds: 4}
      {{- if gt (int $values.preStopSeconds) 0 }}
      lifecycle: {preStop: {exec: {command: [sleep, {{ $values.preStopSeconds | quote }}]}}}
      {{- end }}
      resources: {{ toYaml $values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/stationkeeper, readOnly: true}
        - {name: state, mountPath: /var/lib/stationkeeper}
        - {name: tmp, mountPath: /tmp}
        {{- range include "stationkeeper.secrets" . | fromJsonArray }}
        - {name: secret-{{ . }}, mountPath: /run/secrets/{{ . }}, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ $name }}}
    - {name: tmp, emptyDir: {}}
    {{- range include "stationkeeper.secrets" . | fromJsonArray }}
    - name: secret-{{ . }}
      secret: {secretName: {{ . }}}
    {{- end }}
    {{- if and (eq $role "retrain") $values.persistence.enabled }}
    - name: state
      persistentVolumeClaim: {claimName: {{ default (printf "%s-retrain" $name) $values.persistence.existingClaim }}}
    {{- else if not (and (eq $role "monitor") $values.persistence.enabled) }}
    - {name: state, emptyDir: {}}
    {{- end }}
{{- end -}}

{{- define "stationkeeper.secrets" -}}
{{- $names := concat .root.Values.secrets (default list (index .root.Values .role).pod.secrets) -}}
{{- $strimzi := .root.Values.strimzi -}}
{{- if $strimzi.users.enabled -}}
{{- $names = append $names (printf "%s-%s" (include "stationkeeper.fullname" .root) .role) -}}
{{- if hasSuffix "SSL" $strimzi.users.protocol -}}
{{- $names = append $names (printf "%s-cluster-ca-cert" $strimzi.cluster) -}}
{{- end -}}
{{- end -}}
{{- uniq $names | toJson -}}
{{- end -}}
