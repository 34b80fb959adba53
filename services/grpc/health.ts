/** grpc.health.v1: whether a service of this server serves. @module */
import { HealthCheckRequest, HealthCheckResponse } from "@weir/proto/health";
import { type GrpcMethods, streaming, unary } from "./methods.ts";
import { GrpcError } from "./status.ts";

/** Looked at so often for who watches. */
const WATCH_MS = 1000;

/**
 * The two methods.
 * @param services names that are known; "" is the server itself
 * @param isServing whether they serve now
 */
export function healthMethods(
  services: readonly string[],
  isServing: () => boolean,
  sleep: (ms: number, signal: AbortSignal) => Promise<void>,
): GrpcMethods {
  const known = new Set(["", ...services]);
  const answer = () => HealthCheckResponse.create({ status: isServing() ? "SERVING" : "NOT_SERVING" });
  return {
    "/grpc.health.v1.Health/Check": unary(HealthCheckRequest, HealthCheckResponse, ({ service }) => {
      if (!known.has(service)) throw new GrpcError("NOT_FOUND", `there is no service ${service}`);
      return answer();
    }),
    "/grpc.health.v1.Health/Watch": streaming(
      HealthCheckRequest,
      HealthCheckResponse,
      async function* ({ service }, { signal }) {
        if (!known.has(service)) {
          yield [HealthCheckResponse.create({ status: "SERVICE_UNKNOWN" })];
          return;
        }
        for (let told = ""; !signal.aborted; await sleep(WATCH_MS, signal)) {
          const now = answer();
          if (now.status === told) continue;
          told = now.status;
          yield [now];
        }
      },
    ),
  };
}
