/** What of a node goes to an OTLP endpoint, read from options. @module */
import { ProblemError } from "@weir/common/problem";
import type { FlowFilter } from "@weir/proto/flow";
import { readFilterList, readMask } from "./flow_log_spec.ts";
import type { OtlpTarget } from "./otlp_sender.ts";

/** Values of the options. */
export interface OtlpOptions {
  readonly otlpEndpoint: string;
  readonly otlpHeaders: string;
  readonly otlpSignals: readonly string[];
  readonly otlpAllowlist: string;
  readonly otlpDenylist: string;
  readonly otlpFieldmask: string;
  readonly otlpCompression: string;
  readonly otlpCaFile: string;
  readonly otlpMetricsIntervalS: number;
}

/** What is sent where. */
export interface OtlpSpec {
  readonly target: OtlpTarget;
  /** Absolute path of certificate authorities beside the system's; "": none. */
  readonly caFile: string;
  readonly sendsLogs: boolean;
  readonly sendsMetrics: boolean;
  readonly includeFilters: readonly FlowFilter[];
  readonly excludeFilters: readonly FlowFilter[];
  readonly fieldMask: readonly string[];
  readonly metricsIntervalMs: number;
}

const SIGNALS = ["logs", "metrics"];
const HEADERS_MAX = 32;
/** Set by us, or by who speaks HTTP for us. */
const OURS = new Set(["content-type", "content-length", "content-encoding", "host", "transfer-encoding"]);

/** Reads the options; undefined where nothing is sent. @throws {ProblemError} OTLP_INVALID, FLOW_EXPORT_INVALID, which name the option */
export function readOtlp(options: OtlpOptions): OtlpSpec | undefined {
  const includeFilters = readFilterList("--otlp-allowlist", options.otlpAllowlist);
  const excludeFilters = readFilterList("--otlp-denylist", options.otlpDenylist);
  const fieldMask = readMask("--otlp-fieldmask", options.otlpFieldmask.split(/[\s,]+/));
  const headers = readHeaders(options.otlpHeaders);
  for (const name of options.otlpSignals) {
    if (!SIGNALS.includes(name)) throw invalid("--otlp-signals", name, SIGNALS.join(", "));
  }
  const { otlpCompression: compression, otlpCaFile: caFile } = options;
  if (compression !== "gzip" && compression !== "none") {
    throw invalid("--otlp-compression", compression, "gzip or none");
  }
  if (caFile !== "" && !isPlainPath(caFile)) {
    throw invalid("--otlp-ca-file", caFile, "an absolute path without commas");
  }
  if (options.otlpEndpoint === "") return undefined;
  if (caFile !== "" && !/^https:/i.test(options.otlpEndpoint)) {
    throw invalid("--otlp-ca-file", caFile, "an --otlp-endpoint of https");
  }
  const signals = options.otlpSignals.length === 0 ? SIGNALS : options.otlpSignals;
  return {
    target: { endpoint: readEndpoint(options.otlpEndpoint), headers, compression },
    caFile,
    sendsLogs: signals.includes("logs"),
    sendsMetrics: signals.includes("metrics"),
    includeFilters,
    excludeFilters,
    fieldMask,
    metricsIntervalMs: options.otlpMetricsIntervalS * 1000,
  };
}

/** An absolute path that one of Deno's permissions can name. */
export const isPlainPath = (path: string) =>
  /^\/[^,\p{Cc}]+$/u.test(path) && !/\/\.\.?(\/|$)|\/\//.test(path);

function readEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isPlain = url !== undefined && /^https?:$/.test(url.protocol) && url.username === "" &&
    url.search === "" && url.hash === "";
  if (!isPlain) {
    throw invalid(
      "--otlp-endpoint",
      text,
      "http://HOST:4318 or https://HOST[:PORT][/PREFIX], without user, query and fragment",
    );
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}

/** "name=value,other=value", values percent-encoded, as OTEL_EXPORTER_OTLP_HEADERS has them. What they say is never in an error. */
function readHeaders(text: string): Record<string, string> {
  const headers: Record<string, string> = {};
  const parts = text.split(",").map((part) => part.trim()).filter((part) => part !== "");
  for (const [i, part] of parts.entries()) {
    const at = part.indexOf("="), name = part.slice(0, Math.max(0, at)).trim().toLowerCase();
    const expected = "NAME=VALUE, with commas between; percent-encoded";
    try {
      if (OURS.has(name) || i >= HEADERS_MAX) throw new TypeError();
      const value = decodeURIComponent(part.slice(at + 1).trim());
      new Headers([[name, value]]);
      headers[name] = value;
    } catch {
      throw invalid("WEIR_OTLP_HEADERS", `a header ${i + 1} that cannot be sent`, expected);
    }
  }
  return headers;
}

function invalid(at: string, found: string, expected: string): ProblemError {
  const cut = found.slice(0, 200);
  return new ProblemError("OTLP_INVALID", {
    detail: `Cannot send OTLP: ${at}: found ${cut}, expected ${expected}`,
    found: cut,
    expected,
  });
}
