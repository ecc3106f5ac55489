{{/* Name of the cluster: the name of the release. The operator adds at most "-scheduler" to it. */}}
{{- define "wavedask.name" -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "the name of the release is %q: the Dask operator takes lower-case letters, digits and '-' only" .Release.Name) -}}
{{- end -}}
{{- if gt (len .Release.Name) 53 -}}
{{- fail (printf "the name of the release has %d characters: the Dask operator takes 53 at most" (len .Release.Name)) -}}
{{- end -}}
{{- .Release.Name -}}
{{- end -}}

{{/* Labels of the objects of the chart. */}}
{{- define "wavedask.labels" -}}
app.kubernetes.io/name: wavedask
app.kubernetes.io/instance: {{ include "wavedask.name" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* Reference of the image: by digest if there is one. */}}
{{- define "wavedask.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* What all pods have in common: no rights, no token, the volumes. Takes (list ROOT SCRATCH-SIZE). */}}
{{- define "wavedask.pod" -}}
{{- $root := index . 0 -}}
{{- with $root.Values -}}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: 60
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user.uid | int64 }}
  runAsGroup: {{ .user.gid | int64 }}
  {{- with .user.groups }}
  supplementalGroups:
    {{- range . }}
    - {{ . | int64 }}
    {{- end }}
  {{- end }}
  {{- with .user.fsGroup }}
  fsGroup: {{ . | int64 }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with .image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: scratch
    emptyDir:
      sizeLimit: {{ index $ 1 }}
  - name: data
    persistentVolumeClaim:
      claimName: {{ .data.claim }}
      readOnly: true
  - name: results
    persistentVolumeClaim:
      claimName: {{ .results.claim }}
  {{- with .tls.secret }}
  - name: tls
    secret:
      secretName: {{ . }}
      defaultMode: 0444
  {{- end }}
{{- end -}}
{{- end -}}

{{/* What all containers have in common. Takes (list ROOT RESOURCES). Its list of environment variables
     is the last part: what includes it may append to the list. */}}
{{- define "wavedask.container" -}}
{{- $root := index . 0 -}}
{{- $size := index . 1 -}}
{{- with $root.Values -}}
image: {{ include "wavedask.image" $root | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- range list "requests" "limits" }}
  {{ . }}:
    cpu: {{ $size.cpu | quote }}
    memory: {{ $size.memory }}
    ephemeral-storage: {{ $size.scratch }}
  {{- end }}
volumeMounts:
  - name: scratch
    mountPath: /scratch
  - name: data
    mountPath: {{ .data.path }}
    readOnly: true
  - name: results
    mountPath: {{ .results.path }}
  {{- if .tls.secret }}
  - name: tls
    mountPath: /tls
    readOnly: true
  {{- end }}
env:
  - name: DASK_SCHEDULER_ADDRESS
    value: {{ ternary "tls" "tcp" (ne .tls.secret "") }}://{{ include "wavedask.name" $root }}-scheduler:8786
  # The only folder that can be written beside the results.
  - name: HOME
    value: /scratch
  - name: TMPDIR
    value: /scratch
  - name: DASK_TEMPORARY_DIRECTORY
    value: /scratch
  - name: NUMBA_CACHE_DIR
    value: /scratch/kernels
  {{- if .tls.secret }}
  - name: DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION
    value: "True"
  - name: DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME
    value: tls
  - name: DASK_DISTRIBUTED__COMM__TLS__CA_FILE
    value: /tls/ca.crt
  {{- range $role := list "SCHEDULER" "WORKER" "CLIENT" }}
  - name: DASK_DISTRIBUTED__COMM__TLS__{{ $role }}__CERT
    value: /tls/tls.crt
  - name: DASK_DISTRIBUTED__COMM__TLS__{{ $role }}__KEY
    value: /tls/tls.key
  {{- end }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Spec of a DaskCluster: scheduler, its Service, workers. */}}
{{- define "wavedask.cluster" -}}
{{- include "wavedask.check" . -}}
{{- with .Values.idleTimeout -}}
idleTimeout: {{ . | int64 }}
{{ end -}}
scheduler:
  spec:
    {{- include "wavedask.pod" (list . .Values.scheduler.scratch) | nindent 4 }}
    containers:
      - name: scheduler
        args:
          - dask
          - scheduler
          - --port=8786
          - --dashboard-address=:8787
          {{- if not .Values.dashboard }}
          - --no-dashboard
          {{- end }}
        ports:
          - name: tcp-comm
            containerPort: 8786
          - name: http-dashboard
            containerPort: 8787
        # A scheduler that is busy may answer late: only after two minutes it is restarted.
        startupProbe:
          httpGet: {path: /health, port: http-dashboard}
          periodSeconds: 2
          failureThreshold: 60
        readinessProbe:
          httpGet: {path: /health, port: http-dashboard}
          periodSeconds: 5
          timeoutSeconds: 5
        livenessProbe:
          httpGet: {path: /health, port: http-dashboard}
          periodSeconds: 20
          timeoutSeconds: 15
          failureThreshold: 6
        {{- include "wavedask.container" (list . .Values.scheduler) | nindent 8 }}
          # The operator asks /api how many workers there should be, and which to stop.
          - name: DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES
            {{- if .Values.dashboard }}
            value: >-
              ["distributed.http.scheduler.api", "distributed.http.health",
              "distributed.http.scheduler.info", "distributed.http.scheduler.json",
              "distributed.http.statics"]
            {{- else }}
            value: >-
              ["distributed.http.scheduler.api", "distributed.http.health"]
            {{- end }}
  service:
    type: ClusterIP
    selector:
      dask.org/cluster-name: {{ include "wavedask.name" . }}
      dask.org/component: scheduler
    ports:
      - name: tcp-comm
        port: 8786
        targetPort: tcp-comm
      - name: http-dashboard
        port: 8787
        targetPort: http-dashboard
worker:
  replicas: {{ .Values.workers.replicas | int64 }}
  spec:
    {{- include "wavedask.pod" (list . .Values.workers.scratch) | nindent 4 }}
    containers:
      - name: worker
        # 0.9: of the limit of the container. Dask restarts a worker that needs too much, and says so,
        # before the kernel kills it without a word. A worker without a scheduler ends after
        # --death-timeout and is started again.
        args:
          - dask
          - worker
          - --name=$(DASK_WORKER_NAME)
          - --nworkers=1
          - --nthreads=1
          - --memory-limit=0.9
          - --local-directory=/scratch
          - --worker-port=8789
          - --nanny-port=8790
          - --dashboard-address=:8788
          - --no-dashboard
          - --death-timeout=120
        ports:
          - name: http-dashboard
            containerPort: 8788
          - name: tcp-worker
            containerPort: 8789
          - name: tcp-nanny
            containerPort: 8790
        # While kernels are compiled, a worker does not answer: up to a minute.
        startupProbe:
          httpGet: {path: /health, port: http-dashboard}
          periodSeconds: 2
          failureThreshold: 90
        readinessProbe:
          httpGet: {path: /health, port: http-dashboard}
          periodSeconds: 10
          timeoutSeconds: 5
        livenessProbe:
          httpGet: {path: /health, port: http-dashboard}
          periodSeconds: 30
          timeoutSeconds: 20
          failureThreshold: 6
        {{- include "wavedask.container" (list . .Values.workers) | nindent 8 }}
          # The profiler takes six per cent of a worker's time.
          - name: DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED
            value: "False"
          - name: DASK_DISTRIBUTED__WORKER__HTTP__ROUTES
            value: >-
              ["distributed.http.health"]
{{- end -}}

{{/* What the schema of the values cannot say. */}}
{{- define "wavedask.check" -}}
{{- $data := printf "%s/" .Values.data.path -}}
{{- $results := printf "%s/" .Values.results.path -}}
{{- if or (hasPrefix $data $results) (hasPrefix $results $data) -}}
{{- fail (printf "data.path and results.path are %s and %s: one is inside of the other" .Values.data.path .Values.results.path) -}}
{{- end -}}
{{- if and .Values.autoscale.enabled (gt (int .Values.autoscale.minimum) (int .Values.autoscale.maximum)) -}}
{{- fail (printf "autoscale.minimum is %d, above autoscale.maximum, %d" (int .Values.autoscale.minimum) (int .Values.autoscale.maximum)) -}}
{{- end -}}
{{- end -}}
