/** The flow exporter as a process. @module */
import { WeirClient } from "@weir/client";
import { runService } from "@weir/common";
import { FlowExporter } from "./flow_exporter.ts";
import { RING_FLOWS_DEFAULT, RING_FLOWS_MAX } from "./flow_ring.ts";
import { KnownNames } from "./known_names.ts";
import { mountFlowExporter } from "./server.ts";

if (import.meta.main) {
  await runService({
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
      datapath: {
        kind: "text",
        default: "/run/weir/host/datapath.sock",
        description: "this node's datapath",
      },
    },
    create({ config, api, log, metrics, health, signal }) {
      const nodeName = config.node ?? Deno.hostname();
      const names = new KnownNames({
        allocator: new WeirClient(config.allocator),
        policyEngine: new WeirClient(config.policyEngine),
        endpointManager: new WeirClient(config.endpointManager),
        loadBalancer: config.loadBalancer === "" ? undefined : new WeirClient(config.loadBalancer),
        nodeName,
        cluster: config.cluster,
        log,
      });
      const exporter = new FlowExporter({
        datapath: new WeirClient(config.datapath),
        names,
        metrics,
        ringFlows: config.ringFlows,
        log,
      });
      mountFlowExporter(api, exporter, nodeName);
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
          await Promise.all([names.stop(), exporter.stop()]);
        },
      };
    },
  });
}
