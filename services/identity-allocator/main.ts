/** The process: `deno run services/identity-allocator/main.ts --socket PATH --database-url URL`. @module */
import { LabelFilter, Prefix, runService } from "@weir/common";
import { Database } from "@weir/common/state";
import { watchTrust } from "@weir/client";
import { PROCESS_CONFIG } from "./config.ts";
import { createIdentityAllocator } from "./routes.ts";

runService({
  name: "identity-allocator",
  config: PROCESS_CONFIG,
  trust: watchTrust,
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
        claimGraceS: config.claimGraceS,
        podPoolV4: config.podPoolV4,
        podLengthV4: config.podLengthV4,
        podPoolV6: config.podPoolV6,
        podLengthV6: config.podLengthV6,
        protectedPrefixes: config.protectedPrefixes.map((text) => Prefix.parse(text)),
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
