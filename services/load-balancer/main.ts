/** The process: `deno run services/load-balancer/main.ts --socket PATH --database-url URL`. @module */
import { runService } from "@weir/common";
import { Database } from "@weir/common/state";
import { watchTrust, WeirClient } from "@weir/client";
import { PROCESS_CONFIG, readConfig } from "./config.ts";
import { createLoadBalancer } from "./routes.ts";
import { ManifestDirectory } from "./manifest_directory.ts";

runService({
  name: "load-balancer",
  config: PROCESS_CONFIG,
  trust: watchTrust,
  create({ config, api, clock, log, health }) {
    const database = new Database(config.databaseUrl);
    const identityAllocator = config.identityAllocator === ""
      ? undefined
      : new WeirClient(config.identityAllocator);
    const { awaitKubernetes } = config;
    const lb = createLoadBalancer({
      database,
      config: readConfig(config),
      identityAllocator,
      awaitKubernetes,
      clock,
      api,
    });
    lb.start();
    const directory = config.manifests === ""
      ? undefined
      : new ManifestDirectory(config.manifests, { lb, log, health });
    directory?.start();
    return {
      fetch: lb.handler,
      async stop() {
        await directory?.stop();
        await lb.stop();
        identityAllocator?.close();
        await database.close();
      },
    };
  },
});
