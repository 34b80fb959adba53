/**
 * Serves metrics to Prometheus over TCP (9965), in plain text: whoever reaches the address may read them, and they name pods and
 * namespaces. Beside the flow exporter's own there are those of the services of this machine that it speaks to:
 *
 *     GET /metrics                  hubble_*, and the flow exporter's own weir_*
 *     GET /metrics/datapath         packets, drops, maps, programs
 *     GET /metrics/SERVICE          of the others
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import {
  type Clock,
  errorText,
  type Health,
  hostPort,
  type Logger,
  METRICS_PORT,
  parseHostPort,
  ProblemError,
  problemResponse,
} from "@weir/common";

const RETRY_MS = 2000, DEADLINE_MS = 5000;
/** A text is made at most so often, whoever asks. */
const FRESH_MS = 500;

/** What is served where. */
export interface MetricsListenerParts {
  /** `ADDRESS[:9965]`, or `:9965` for every address of the machine. */
  readonly listen: string;
  /** The flow exporter's own. */
  readonly render: () => string;
  /** Services of this machine by name. */
  readonly services: Readonly<Record<string, Pick<WeirClient, "exchange">>>;
  readonly health: Health;
  readonly log: Logger;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Reads where to listen. @throws {ProblemError} HUBBLE_METRICS_ADDRESS_INVALID */
export function metricsAddress(listen: string): { hostname: string; port: number } {
  const text = /^:\d+$/.test(listen) ? `[::]${listen}` : listen;
  const found = parseHostPort(text, METRICS_PORT);
  if (found !== undefined) return found;
  throw new ProblemError("HUBBLE_METRICS_ADDRESS_INVALID", {
    detail: `Cannot serve metrics on ${listen}`,
    found: listen,
    expected: `ADDRESS[:${METRICS_PORT}], or :${METRICS_PORT} for every address of this machine`,
  });
}

/** Answers requests for metrics; nothing else is here. */
export function metricsHandler(
  { render, services, clock }: Pick<MetricsListenerParts, "render" | "services"> & {
    clock: Pick<Clock, "monotonicMs">;
  },
): (request: Request) => Promise<Response> {
  const texts = new Map<string, { atMs: number; text: Promise<string> }>();
  const textOf = (name: string): Promise<string> => {
    const nowMs = clock.monotonicMs(), known = texts.get(name);
    if (known !== undefined && nowMs - known.atMs < FRESH_MS) return known.text;
    const text = name === ""
      ? Promise.resolve(render())
      : services[name].exchange("/metrics", {}, { deadlineMs: DEADLINE_MS }).then(({ bytes }) =>
        new TextDecoder().decode(bytes)
      );
    texts.set(name, { atMs: nowMs, text });
    return text;
  };
  return async (request) => {
    try {
      const { pathname } = new URL(request.url);
      const match = /^\/metrics(?:\/([a-z-]*))?$/.exec(pathname), name = match?.[1] ?? "";
      const isKnown = match !== null && (name === "" || Object.hasOwn(services, name));
      if ((request.method !== "GET" && request.method !== "HEAD") || !isKnown) {
        throw new ProblemError("NO_SUCH_ROUTE", {
          status: 404,
          detail: `Cannot ${request.method} ${pathname}`,
          expected: ["GET /metrics", ...Object.keys(services).map((each) => `GET /metrics/${each}`)].join(
            ", ",
          ),
        });
      }
      const text = await textOf(name);
      return new Response(text, { headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" } });
    } catch (error) {
      return problemResponse(error);
    }
  };
}

/** Serves until `signal` aborts; an address that cannot be had is tried again. @throws {ProblemError} as {@link metricsAddress} */
export function serveMetrics(parts: MetricsListenerParts): void {
  const { health, log, clock, signal } = parts, { hostname, port } = metricsAddress(parts.listen);
  const handler = metricsHandler(parts), address = hostPort(hostname, port), what = `metrics on ${address}`;
  const open = async () => {
    while (!signal.aborted) {
      try {
        const server = Deno.serve(
          { hostname, port, signal, onListen() {}, onError: problemResponse },
          handler,
        );
        health.ok(what, "served in plain text");
        log.info("Listening", { address: `http://${address}/metrics` });
        return await server.finished;
      } catch (error) {
        health.ok(what, `not served: ${errorText(error)}`);
        log.debug("Cannot serve metrics yet", { address, error });
        await clock.sleep(RETRY_MS, signal);
      }
    }
  };
  open();
}
