/**
 * Plays incidents in one lab, one after another. Whoever debugs at three in the morning has one command: it must name the cause,
 * and what it prints must work.
 * @module
 */
import { canRun, Lab } from "../e2e/weir.ts";
import { CAST } from "./cast.ts";
import { CONNECTION_INCIDENTS } from "./connection_incidents.ts";
import { type Incident, play } from "./incident.ts";
import { NODE_INCIDENTS } from "./node_incidents.ts";
import { POLICY_INCIDENTS } from "./policy_incidents.ts";
import { SERVICE_INCIDENTS } from "./service_incidents.ts";

const lab = new Lab(`inc${Deno.pid}`);

if (canRun) {
  Deno.test.beforeAll(async () => {
    // What stands still is to stand still until it was asked about: an agent would start it anew.
    await lab.up(2, CAST, ["--agent", "hung-after-s=3000"]);
  });
  Deno.test.afterAll(async () => await lab.down());
}

function incidents(about: string, list: readonly Incident[]): void {
  const only = Deno.env.get("WEIR_INCIDENT");
  for (const incident of list) {
    if (only !== undefined && !only.split(",").some((part) => incident.name.includes(part))) continue;
    Deno.test({
      name: `${about}: ${incident.name}`,
      ignore: !canRun,
      fn: () => play(lab, incident),
    });
  }
}

incidents("policy", POLICY_INCIDENTS);
incidents("service", SERVICE_INCIDENTS);
incidents("connection", CONNECTION_INCIDENTS);
incidents("node", NODE_INCIDENTS);
