/** The policy-engine as a process. @module */
import { runService } from "@weir/common";
import { Database } from "@weir/common/state";
import { watchTrust, WeirClient } from "@weir/client";
import { createPolicyEngine } from "./create_policy_engine.ts";

runService({
  name: "policy-engine",
  trust: watchTrust,
  config: {
    identityAllocator: {
      kind: "text",
      default: "unix:/run/weir/host/identity-allocator.sock",
      description: "address of the identity-allocator",
    },
    loadBalancer: {
      kind: "text",
      default: "",
      description: "address of the load balancer, for policies that name services; empty: they mean nobody",
    },
    databaseUrl: { kind: "text", default: "sqlite::memory:", description: "database of the policies" },
    cluster: { kind: "text", default: "default", description: "name of this cluster" },
    awaitKubernetes: {
      kind: "flag",
      description: "a new database answers nobody before Kubernetes' policies are in it",
    },
  },
  create(context) {
    const database = new Database(context.config.databaseUrl);
    const allocator = new WeirClient(context.config.identityAllocator);
    const { config } = context;
    const loadBalancer = config.loadBalancer === "" ? undefined : new WeirClient(config.loadBalancer);
    const engine = createPolicyEngine({
      database,
      allocator,
      loadBalancer,
      cluster: context.config.cluster,
      awaitKubernetes: context.config.awaitKubernetes,
      clock: context.clock,
      api: context.api,
    });
    engine.start();
    return {
      fetch: engine.handler,
      async stop() {
        await engine.stop();
        allocator.close();
        loadBalancer?.close();
        await database.close();
      },
    };
  },
});
