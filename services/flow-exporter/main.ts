/** The flow exporter as a process. @module */
import { WeirClient } from "@weir/client";
import { runService } from "@weir/common";
import { readStaticLog } from "./export/flow_log_spec.ts";
import { runExports } from "./export/exports.ts";
import { EXPORT_CONFIG } from "./export/options.ts";
import { readOtlp } from "./export/otlp_options.ts";
import { FlowExporter } from "./flow_exporter.ts";
import { RING_FLOWS_DEFAULT, RING_FLOWS_MAX } from "./flow_ring.ts";
import { serveHubble } from "./hubble/server.ts";
import { KnownNames } from "./known_names.ts";
import { REDACTION_CONFIG } from "./l7/options.ts";
import { serveRecords } from "./l7/records_server.ts";
import { readRedaction } from "./l7/redaction.ts";
import { HubbleMetrics } from "./metrics/hubble_metrics.ts";
import { serveMetrics } from "./metrics/listener.ts";
import { mountFlowExporter } from "./server.ts";

runService({
  name: "flow-exporter",
  config: {
    node: { kind: "text", description: "name of this node, default the host's name" },
    cluster: { kind: "text", default: "default", description: "name of the cluster" },
    ringFlows: {
      kind: "number",
      default: RING_FLOWS_DEFAULT,
      min: 1,
      max: RING_FLOWS_MAX,
      description: "flows in memory",
    },
    allocator: {
      kind: "text",
      default: "/run/weir/host/identity-allocator.sock",
      description: "identity allocator",
    },
    policyEngine: {
      kind: "text",
      default: "/run/weir/host/policy-engine.sock",
      description: "policy engine",
    },
    endpointManager: {
      kind: "text",
      default: "/run/weir/host/endpoint-manager.sock",
      description: "endpoint manager",
    },
    loadBalancer: {
      kind: "text",
      default: "",
      description: "load balancer; without one services have no names",
    },
    hubbleSocket: { kind: "text", default: "", description: "unix socket with Hubble's gRPC API" },
    hubbleListen: {
      kind: "text",
      default: "",
      description: "ADDRESS[:4244] with Hubble's gRPC API; beyond loopback with mutual TLS only",
    },
    hubbleTlsDirectory: {
      kind: "text",
      default: "",
      description: "directory with node.crt, node.key and ca.crt for hubbleListen",
    },
    hubbleMetrics: {
      kind: "text",
      default: "default",
      description: "what is counted for Prometheus, as Hubble's option says it; empty: nothing",
    },
    hubbleMetricsListen: {
      kind: "text",
      default: "",
      description: "ADDRESS[:9965] with metrics for Prometheus, in plain text for whoever reaches it",
    },
    ...EXPORT_CONFIG,
    ...REDACTION_CONFIG,
    recordsSocket: {
      kind: "text",
      default: "",
      description: "unix socket at which the L7 proxy hands over records; empty: none",
    },
    clusterListen: {
      kind: "text",
      default: "",
      description: "ADDRESS:4244 with Hubble's API for the relays of the cluster, with mutual TLS",
    },
    clusterTlsDirectory: {
      kind: "text",
      default: "",
      description: "directory with node.crt, node.key and ca.crt for clusterListen",
    },
    authority: {
      kind: "text",
      default: "",
      description: "certificate authority, which says who may come in at clusterListen",
    },
    datapath: {
      kind: "text",
      default: "/run/weir/host/datapath.sock",
      description: "this node's datapath",
    },
  },
  create({ config, api, log, metrics, health, clock, signal }) {
    const nodeName = config.node ?? Deno.hostname();
    const hubble = new HubbleMetrics({ options: config.hubbleMetrics, clock });
    const names = new KnownNames({
      allocator: new WeirClient(config.allocator, { joint: true }),
      policyEngine: new WeirClient(config.policyEngine, { joint: true }),
      endpointManager: new WeirClient(config.endpointManager),
      loadBalancer: config.loadBalancer === ""
        ? undefined
        : new WeirClient(config.loadBalancer, { joint: true }),
      nodeName,
      cluster: config.cluster,
      pods: hubble.pods,
      log,
    });
    const exporter = new FlowExporter({
      datapath: new WeirClient(config.datapath),
      names,
      metrics,
      hubble,
      redaction: readRedaction(config),
      ringFlows: config.ringFlows,
      log,
    });
    const fullName = config.cluster === "" ? nodeName : `${config.cluster}/${nodeName}`;
    mountFlowExporter(api, exporter, { nodeName: fullName, events: names.events });
    serveHubble({
      exporter,
      names,
      nodeName,
      cluster: config.cluster,
      socket: config.hubbleSocket,
      listen: config.hubbleListen,
      tlsDirectory: config.hubbleTlsDirectory,
      clusterListen: config.clusterListen,
      clusterTlsDirectory: config.clusterTlsDirectory,
      authority: config.authority,
      isServing: () => exporter.waitingFor() === undefined && names.waitingFor().length === 0,
      health,
      metrics,
      log,
      clock,
      signal,
    });
    if (config.hubbleMetricsListen !== "") {
      serveMetrics({
        listen: config.hubbleMetricsListen,
        render: () => metrics.render(),
        services: localServices(config),
        health,
        log,
        clock,
        signal,
      });
    }
    const exporting = runExports({
      ring: exporter.ring,
      fixed: readStaticLog(config),
      configPath: config.hubbleFlowlogsConfigPath,
      directory: config.hubbleFlowlogsDirectory,
      otlp: readOtlp(config),
      services: localServices(config),
      nodeName: fullName,
      clock,
      metrics,
      health,
      log,
    }, signal);
    const records = config.recordsSocket === "" ? undefined : serveRecords({
      socket: config.recordsSocket,
      exporter,
      health,
      metrics,
      log,
      clock,
      signal,
    });
    const look = () => {
      const waits = names.waitingFor();
      if (waits.length === 0) health.ok("names", "in sync");
      else health.waitFor("names", `waits for ${waits.join(", ")}`);
      const events = exporter.waitingFor();
      if (events === undefined) health.ok("events", "connected");
      else health.waitFor("events", `waits for ${events}`);
    };
    look();
    const timer = setInterval(look, 100);
    signal.addEventListener("abort", () => clearInterval(timer));
    names.start();
    exporter.start();
    return {
      async stop() {
        await Promise.all([names.stop(), exporter.stop(), exporting, records]);
      },
    };
  },
});

/** Services of this machine that names and events come from; those of other machines serve their metrics themselves. */
function localServices(
  config: Record<"datapath" | "endpointManager" | "allocator" | "policyEngine" | "loadBalancer", string>,
): Record<string, WeirClient> {
  const addresses = {
    "datapath": config.datapath,
    "endpoint-manager": config.endpointManager,
    "identity-allocator": config.allocator,
    "policy-engine": config.policyEngine,
    "load-balancer": config.loadBalancer,
  };
  const local = Object.entries(addresses).filter(([, address]) => /^(unix:)?\//.test(address));
  return Object.fromEntries(local.map(([name, address]) => [name, new WeirClient(address)]));
}
