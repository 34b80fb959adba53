/** The process: `deno run services/load-balancer/main.ts --socket PATH --database-url URL`. @module */
import { runService } from "@weir/common";
import { Database } from "@weir/common/state";
import { WeirClient } from "@weir/client";
import { PROCESS_CONFIG, readConfig } from "./config.ts";
import { createLoadBalancer } from "./load_balancer.ts";
import { ManifestDirectory } from "./manifest_directory.ts";

if (import.meta.main) {
  await runService({
    name: "load-balancer",
    config: PROCESS_CONFIG,
    create({ config, api, clock, log, health }) {
      const database = new Database(config.databaseUrl);
      const allocator = config.identityAllocator === ""
        ? undefined
        : new WeirClient(config.identityAllocator);
      const lb = createLoadBalancer({ database, config: readConfig(config), allocator, clock, api });
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
          allocator?.close();
          await database.close();
        },
      };
    },
  });
}
