/** The process: `deno run services/identity-allocator/main.ts --socket PATH --database-url URL`. @module */
import { LabelFilter, runService } from "@weir/common";
import { Database } from "@weir/common/state";
import { PROCESS_CONFIG } from "./config.ts";
import { createIdentityAllocator } from "./identity_allocator.ts";

if (import.meta.main) {
  await runService({
    name: "identity-allocator",
    config: PROCESS_CONFIG,
    async create({ config, api, clock }) {
      const database = new Database(config.databaseUrl);
      const allocator = createIdentityAllocator({
        database,
        clock,
        api,
        config: {
          clusterId: config.clusterId,
          graceS: config.identityGraceS,
          nodeTtlS: config.nodeTtlS,
          podPoolV4: config.podPoolV4,
          podLengthV4: config.podLengthV4,
          podPoolV6: config.podPoolV6,
          podLengthV6: config.podLengthV6,
          labelFilter: new LabelFilter({ extra: config.labels }),
        },
      });
      // It listens while the database is away: /readyz says what it waits for.
      await allocator.start({ wait: false });
      return {
        async stop() {
          await allocator.stop();
          await database.close();
        },
      };
    },
  });
}
