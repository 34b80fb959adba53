/** The process: `deno run services/certificate-authority/main.ts --socket PATH --database-url URL`. @module */
import { runService } from "@weir/common";
import { Database } from "@weir/common/state";
import { watchTrust } from "@weir/client";
import { createCertificateAuthority } from "./routes.ts";
import { PROCESS_CONFIG } from "./config.ts";

runService({
  name: "certificate-authority",
  config: PROCESS_CONFIG,
  // Who may ask here gets any certificate. The agent makes the file root's, so that is root alone.
  socketMode: 0o600,
  async create({ config, api, clock, log, signal }) {
    const database = new Database(config.databaseUrl);
    const authority = createCertificateAuthority({
      database,
      clock,
      api,
      config: {
        cluster: config.cluster,
        certificateLifetimeMs: config.certificateLifetimeS * 1000,
        withdrawalsFile: config.withdrawals,
        authorityFile: config.authority,
      },
    });
    // It listens while the database is away: /readyz says what it waits for.
    await authority.start({ wait: false });
    return {
      trust: watchTrust({ handler: api.fetch }, { log, clock, signal }),
      async stop() {
        await authority.stop();
        await database.close();
      },
    };
  },
});
