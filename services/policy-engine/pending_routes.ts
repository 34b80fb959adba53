/**
 * The HTTP surface of changes that wait to be confirmed.
 * @module
 */
import { ProblemError, unixSeconds } from "@weir/common";
import { ApplyResponse, ConfirmRequest, PendingChange } from "@weir/proto/policy";
import { assertConfirmTime, type ConfirmRequest as Wanted, type RolledBack } from "./pending_rows.ts";
import type { PolicyEngine } from "./policy_engine.ts";

type Ended = Pick<RolledBack, "change"> & Partial<RolledBack>;

/** Mounts them on the engine's server. */
export function mountPendingRoutes(engine: PolicyEngine): void {
  const { api, admission, store, repository } = engine;
  api.collection<PendingChange>({
    name: "pendingchanges",
    guard: admission.toPolicies,
    message: PendingChange,
    list: () => engine.pending.list(),
    get: (name) => engine.pending.list().find(({ id }) => id === name),
    description: "Changes of policies that are rolled back unless they are confirmed",
  });
  const action = (verb: string, end: (id: string) => Promise<Ended>, description: string) =>
    api.action({
      path: `/v1/policies:${verb}`,
      guard: admission.toPolicies,
      request: ConfirmRequest,
      response: ApplyResponse,
      handle: async ({ id }) => {
        const { change: pending, left } = await end(await idOf(engine, id));
        await engine.syncPolicies();
        engine.publishNow();
        const done = verb === "confirm" ? "confirmed" : "rolled back";
        return ApplyResponse.create({
          policyRevision: repository.policyRevision,
          items: pending.policies.map(({ name }) => ({
            name,
            change: left?.has(name) ? "changed since, not rolled back" : done,
            warnings: [],
          })),
          pending,
        });
      },
      description,
    });
  action("confirm", async (id) => ({ change: await store.confirm(id) }), "A change that waits is kept");
  action(
    "rollback",
    async (id) => await store.rollBack(id) ?? notPending(id),
    "A change that waits is taken back now",
  );
}

/** What a request asks for; undefined: its change does not wait. @throws {ProblemError} CONFIRM_TIME_INVALID */
export function wantedConfirm(
  engine: PolicyEngine,
  { confirmWithinS, by }: { confirmWithinS: number; by: string },
): Wanted | undefined {
  if (confirmWithinS === 0) return undefined;
  assertConfirmTime(confirmWithinS);
  const random = crypto.getRandomValues(new Uint8Array(5));
  return { id: `change-${random.toHex()}`, withinS: confirmWithinS, by, nowS: unixSeconds(engine.api.clock) };
}

async function idOf({ store }: PolicyEngine, id: string): Promise<string> {
  if (id !== "") return id;
  await store.store.pull(); // another replica may have written it
  const waiting = store.pending.list();
  if (waiting.length === 1) return waiting[0].id;
  throw new ProblemError(waiting.length === 0 ? "NOT_PENDING" : "SEVERAL_PENDING", {
    status: waiting.length === 0 ? 404 : 409,
    detail: waiting.length === 0
      ? "Cannot find a change that waits to be confirmed: there is none"
      : `Cannot tell which change is meant: ${waiting.length} wait`,
    found: waiting.slice(0, 5).map(({ id }) => id).join(", ") || "none",
    expected: "one change, or its name",
    action: "weir policy pending shows those that wait; what was not confirmed in time is rolled back",
  });
}

function notPending(id: string): never {
  throw new ProblemError("NOT_PENDING", {
    status: 404,
    detail: `Cannot roll back change ${JSON.stringify(id)}: it does not wait to be confirmed`,
    action: "It was confirmed, or rolled back already: weir policy pending shows those that wait",
  });
}
