/** Envoy in front of an origin, with rules of the same meaning as the bench's own: the yardstick. `fetch-envoy` puts its binary into .build. @module */
import { type Listening, startAt } from "./processes.ts";

const BINARY = new URL("../../../.build/envoy/envoy", import.meta.url).pathname;

/** Whether `fetch-envoy` has run. */
export async function hasEnvoy(): Promise<boolean> {
  try {
    return (await Deno.stat(BINARY)).isFile;
  } catch {
    return false;
  }
}

/** A socket of this machine, as Envoy's configuration has it. */
export const local = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });

/** One filter or option with the type that it is of, below `envoy.extensions`. */
export const typed = (name: string, type: string, config: Record<string, unknown>) => ({
  name,
  typed_config: { "@type": `type.googleapis.com/envoy.extensions.${type}`, ...config },
});

/** Every request of which the path matches goes to the origin. */
export const routes = (match: Record<string, unknown>) => ({
  virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match, route: { cluster: "origin" } }] }],
});

/**
 * Starts one with a single worker. Its connections to the origin belong to those of the clients: who brings the client's own address to the
 * server cannot share them.
 * @param listenersAt its listeners, of which the first is at this port
 */
export async function startWith(
  originPort: number,
  listenersAt: (port: number) => Record<string, unknown>[],
): Promise<Listening> {
  const config = (port: number) => ({
    static_resources: {
      listeners: listenersAt(port),
      clusters: [{
        name: "origin",
        type: "STATIC",
        connection_pool_per_downstream_connection: true,
        // Else it keeps the connection of a client that is gone, and runs out of descriptors.
        typed_extension_protocol_options: {
          "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            explicit_http_config: { http_protocol_options: {} },
            common_http_protocol_options: { idle_timeout: "1s" },
          },
        },
        load_assignment: {
          cluster_name: "origin",
          endpoints: [{ lb_endpoints: [{ endpoint: { address: local(originPort) } }] }],
        },
      }],
    },
  });
  const words = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "--config-yaml"];
  return await startAt((port) =>
    new Deno.Command(BINARY, {
      args: [...words, JSON.stringify(config(port))],
      stdout: "null",
      stderr: "inherit",
    })
  );
}

/** One regular expression over the whole of a header. */
const whole = (name: string, regex: string) => ({
  header: { name, string_match: { safe_regex: { regex } } },
});

/**
 * Starts one with rules. Paths are made plain as the field's proxy is told to; nothing is logged.
 * @param rules method and path of each, as in `RuleSet.http`
 */
export async function startEnvoy(
  originPort: number,
  rules: readonly { method: string; path: string }[],
): Promise<Listening> {
  const permissions = rules.map(({ method, path }) => ({
    and_rules: { rules: [whole(":method", method), whole(":path", path)] },
  }));
  const rbac = typed("envoy.filters.http.rbac", "filters.http.rbac.v3.RBAC", {
    rules: { action: "ALLOW", policies: { web: { permissions, principals: [{ any: true }] } } },
  });
  const connections = typed("http", "filters.network.http_connection_manager.v3.HttpConnectionManager", {
    stat_prefix: "bench",
    normalize_path: true,
    merge_slashes: true,
    path_with_escaped_slashes_action: "UNESCAPE_AND_REDIRECT",
    route_config: routes({ prefix: "/" }),
    http_filters: [rbac, typed("envoy.filters.http.router", "filters.http.router.v3.Router", {})],
  });
  return await startWith(originPort, (port) => [
    { address: local(port), filter_chains: [{ filters: [connections] }] },
  ]);
}
