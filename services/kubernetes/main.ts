/** The process: `deno run services/kubernetes/main.ts --socket PATH`. @module */
import { runService } from "@weir/common";
import { watchTrust, WeirClient } from "@weir/client";
import { checkServer, inClusterAccess } from "./api/access.ts";
import { ApiClient } from "./api/client.ts";
import { PROCESS_CONFIG } from "./config.ts";
import { runOperator } from "./operator/run_operator.ts";
import { createKubernetesService } from "./routes.ts";

runService({
  name: "kubernetes",
  config: PROCESS_CONFIG,
  trust: watchTrust,
  create({ config, api, clock }) {
    const { apiServer, serviceAccountDirectory } = config;
    const server = apiServer === "" ? undefined : checkServer(apiServer);
    const client = new ApiClient(inClusterAccess({ server, directory: serviceAccountDirectory, clock }), {
      clock,
    });
    const policyEngine = new WeirClient(config.policyEngine),
      loadBalancer = new WeirClient(config.loadBalancer),
      directory = new WeirClient(config.identityAllocator);
    const authority = config.authority === "" ? undefined : new WeirClient(config.authority);
    const { cluster, namespace, nodeServiceAccount } = config;
    const service = createKubernetesService({
      client,
      policyEngine,
      loadBalancer,
      identityAllocator: directory,
      authority,
      cluster,
      namespace,
      nodeServiceAccount,
      api,
      clock,
    });
    service.start();
    const { identityAllocator, ciliumEndpoints: singleEndpoints } = config;
    const operator = runOperator({
      client,
      api,
      targets: { identityAllocator, policyEngine: config.policyEngine, loadBalancer: config.loadBalancer },
      namespace,
      node: config.node || Deno.hostname(),
      singleEndpoints,
      clock,
    });
    return {
      async stop() {
        await operator.stop();
        await service.stop();
        for (const one of [client, policyEngine, loadBalancer, directory, authority]) one?.close();
      },
    };
  },
});
