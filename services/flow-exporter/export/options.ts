/** Options of the export of flows, for the flow exporter, the agent and its manual: data alone. @module */
import type { ConfigSpec } from "@weir/common/config";

/** Names and defaults are those of Hubble's exporter; what begins with `otlp` is ours. */
export const EXPORT_CONFIG = {
  hubbleExportFilePath: {
    kind: "text",
    default: "",
    description:
      "file that takes this node's flows, one JSON object a line; its directory must be the service user's",
  },
  hubbleExportFileMaxSizeMb: {
    kind: "number",
    default: 10,
    min: 1,
    max: 1 << 20,
    description: "MB (2^20 bytes) at which the file is put aside and a new one begun",
  },
  hubbleExportFileMaxBackups: {
    kind: "number",
    default: 5,
    min: 1,
    max: 1000,
    description: "files put aside that are kept",
  },
  hubbleExportFileCompress: { kind: "flag", description: "compress files put aside (gzip)" },
  hubbleExportAllowlist: {
    kind: "text",
    default: "",
    description:
      "FlowFilters in JSON of the flows that are written (default: all), as weir observe --print-raw-filters prints them",
  },
  hubbleExportDenylist: {
    kind: "text",
    default: "",
    description: "FlowFilters in JSON of flows that are not written",
  },
  hubbleExportFieldmask: {
    kind: "text",
    default: "",
    description: "fields of a flow that are written, with spaces or commas between (default: all)",
  },
  hubbleFlowlogsConfigPath: {
    kind: "text",
    default: "",
    description:
      "YAML file with several exports (flowLogs), taken up while it runs; the service user must be able to read it",
  },
  hubbleFlowlogsDirectory: {
    kind: "text",
    default: "/var/log/weir",
    description: "directory below which the files of --hubble-flowlogs-config-path are",
  },
  otlpEndpoint: {
    kind: "text",
    default: "",
    description:
      "http://HOST:4318 or https://HOST[:PORT][/PREFIX] that takes flows (/v1/logs) and metrics (/v1/metrics) as OTLP",
  },
  otlpHeaders: {
    kind: "text",
    default: "",
    description: "NAME=VALUE,... that go with each request; only as WEIR_OTLP_HEADERS or in --config",
  },
  otlpSignals: { kind: "list", description: "what is sent: logs, metrics (default: both)" },
  otlpAllowlist: {
    kind: "text",
    default: "",
    description: "FlowFilters in JSON of the flows that are sent (default: all)",
  },
  otlpDenylist: { kind: "text", default: "", description: "FlowFilters in JSON of flows that are not sent" },
  otlpFieldmask: {
    kind: "text",
    default: "",
    description: "fields of a flow that its log record's body has (default: all)",
  },
  otlpCompression: {
    kind: "text",
    default: "gzip",
    description: "how requests are compressed: gzip or none",
  },
  otlpCaFile: {
    kind: "text",
    default: "",
    description:
      "PEM file of certificate authorities that an https endpoint is believed by, beside the system's; read again as it changes",
  },
  otlpMetricsIntervalS: {
    kind: "number",
    default: 60,
    min: 1,
    max: 3600,
    description: "seconds between two times that metrics are sent",
  },
} as const satisfies ConfigSpec;

/** Options of what goes to an OTLP endpoint, by their flags; headers are secret. */
export const OTLP_OPTIONS = {
  otlpEndpoint: "otlp-endpoint",
  otlpSignals: "otlp-signals",
  otlpAllowlist: "otlp-allowlist",
  otlpDenylist: "otlp-denylist",
  otlpFieldmask: "otlp-fieldmask",
  otlpCompression: "otlp-compression",
  otlpCaFile: "otlp-ca-file",
  otlpMetricsIntervalS: "otlp-metrics-interval-s",
} as const;

/** Options of the export to one file, by their flags. */
export const STATIC_LOG_OPTIONS = {
  hubbleExportFilePath: "hubble-export-file-path",
  hubbleExportFileMaxSizeMb: "hubble-export-file-max-size-mb",
  hubbleExportFileMaxBackups: "hubble-export-file-max-backups",
  hubbleExportFileCompress: "hubble-export-file-compress",
  hubbleExportAllowlist: "hubble-export-allowlist",
  hubbleExportDenylist: "hubble-export-denylist",
  hubbleExportFieldmask: "hubble-export-fieldmask",
} as const;
