/** The flow history as a process. @module */
import { WeirClient } from "@weir/client";
import { runService } from "@weir/common";
import { Database } from "@weir/common/state";
import { FlowHistory } from "./history.ts";
import { RelayFollower } from "./relay_follower.ts";
import { mountHistory } from "./routes.ts";

const LOOK_MS = 1000;
const HOUR_MS = 3_600_000, MIB = 1 << 20;

runService({
  name: "flow-history",
  config: {
    relay: {
      kind: "text",
      default: "/run/weir/host/hubble-relay.sock",
      description: "unix socket of the relay, whose flows are kept",
    },
    allocator: {
      kind: "text",
      default: "/run/weir/host/identity-allocator.sock",
      description: "identity allocator: identities and addresses are kept as they held",
    },
    policyEngine: {
      kind: "text",
      default: "/run/weir/host/policy-engine.sock",
      description: "policy engine: policies are kept as they held",
    },
    databaseUrl: { kind: "text", default: "sqlite::memory:", description: "database of the history" },
    flowsPerS: {
      kind: "number",
      default: 1000,
      min: 1,
      max: 100_000,
      description: "flows that are kept one by one in a second; of more a sample (sums are of all)",
    },
    ageH: { kind: "number", default: 168, min: 1, max: 87_600, description: "hours that flows are kept" },
    rollupAgeH: {
      kind: "number",
      default: 720,
      min: 1,
      max: 87_600,
      description: "hours that sums and what held are kept",
    },
    sizeMib: {
      kind: "number",
      default: 2048,
      min: 16,
      max: 1 << 24,
      description: "MiB that all of it may take",
    },
  },
  create({ config, log, metrics, health, clock, api, signal }) {
    const database = new Database(config.databaseUrl);
    const history = new FlowHistory({
      ...{ database, clock, log, health, metrics },
      flowsPerSMax: config.flowsPerS,
      owner: `${Deno.hostname().replaceAll(" ", "-")}/${crypto.randomUUID().slice(0, 8)}`,
      onLost: (why) => {
        log.error("Begins anew", { why });
        Deno.exit(1);
      },
      limits: {
        ageMsMax: config.ageH * HOUR_MS,
        rollupAgeMsMax: config.rollupAgeH * HOUR_MS,
        bytesMax: config.sizeMib * MIB,
      },
    });
    const follower = new RelayFollower({ relay: { path: config.relay }, intake: history.intake, clock, log });
    const allocator = new WeirClient(config.allocator), policyEngine = new WeirClient(config.policyEngine);
    mountHistory(api, history, { clock, relayAway: () => follower.away, allocator, policyEngine });
    history.start();
    history.loaded.then(() => {
      if (signal.aborted) return;
      follower.start();
      history.held.start({ allocator, policyEngine, log });
    });
    const look = () => {
      if (!history.isLoaded && history.writer !== "") return health.ok("relay", "standby");
      if (!history.isLoaded) return health.waitFor("relay", "waits for the database");
      if (follower.away === "") health.ok("relay", "connected");
      else health.waitFor("relay", follower.away);
    };
    look();
    const timer = setInterval(look, LOOK_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
    return {
      async stop() {
        await follower.stop();
        await history.held.stop();
        await history.stop();
        await database.close();
      },
    };
  },
});
