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

/** One regular expression over the whole of a header. */
const whole = (name: string, regex: string) => ({
  header: { name, string_match: { safe_regex: { regex } } },
});

/**
 * Starts one with a single worker, as our proxy has one. Paths are made plain as the field's proxy is told to; nothing is logged. Its connections
 * to the origin belong to those of the clients: who brings the client's own address to the server cannot share them.
 * @param rules method and path of each, as in `RuleSet.http`
 */
export async function startEnvoy(
  originPort: number,
  rules: readonly { method: string; path: string }[],
): Promise<Listening> {
  const at = (port: number) => ({ socket_address: { address: "127.0.0.1", port_value: port } });
  const typed = (name: string, type: string, config: Record<string, unknown>) => ({
    name,
    typed_config: { "@type": `type.googleapis.com/envoy.extensions.filters.${type}`, ...config },
  });
  const permissions = rules.map(({ method, path }) => ({
    and_rules: { rules: [whole(":method", method), whole(":path", path)] },
  }));
  const rbac = typed("envoy.filters.http.rbac", "http.rbac.v3.RBAC", {
    rules: { action: "ALLOW", policies: { web: { permissions, principals: [{ any: true }] } } },
  });
  const connections = typed("http", "network.http_connection_manager.v3.HttpConnectionManager", {
    stat_prefix: "bench",
    normalize_path: true,
    merge_slashes: true,
    path_with_escaped_slashes_action: "UNESCAPE_AND_REDIRECT",
    route_config: {
      virtual_hosts: [{
        name: "all",
        domains: ["*"],
        routes: [{ match: { prefix: "/" }, route: { cluster: "origin" } }],
      }],
    },
    http_filters: [rbac, typed("envoy.filters.http.router", "http.router.v3.Router", {})],
  });
  return await startAt((port) =>
    new Deno.Command(BINARY, {
      args: [
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "error",
        "--config-yaml",
        JSON.stringify({
          static_resources: {
            listeners: [{ address: at(port), filter_chains: [{ filters: [connections] }] }],
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
                endpoints: [{ lb_endpoints: [{ endpoint: { address: at(originPort) } }] }],
              },
            }],
          },
        }),
      ],
      stdout: "null",
      stderr: "inherit",
    })
  );
}
