/** What objects of Kubernetes could not be handed on, and why: the collection `objectfaults`. @module */
import { type ProblemError, toProblem, WatchedTable } from "@weir/common";
import type { ObjectFault } from "@weir/proto/kubernetes";
import type { MirrorFault, WantedObject } from "./mirror.ts";

/** Faults by "KIND/NAMESPACE/NAME". */
export class ObjectFaults {
  readonly table = new WatchedTable<ObjectFault>({ name: "objectfaults", entriesMax: Infinity });

  /** A service refused the object, or took it again (undefined). */
  refused(object: WantedObject, fault: MirrorFault | undefined): void {
    if (fault === undefined) this.table.delete(`${object.kind}/${object.key}`);
    else this.#put(object, fault.error, fault);
  }

  /** The object could not be read, or could be again (undefined). */
  unread(kind: string, key: string, error: Error | undefined, nowMs: number): void {
    if (error === undefined) this.table.delete(`${kind}/${key}`);
    else this.#put({ kind, key, uid: "", generation: 0 }, toProblem(error), { sinceMs: nowMs, attempts: 1 });
  }

  /** Objects of a kind that have a fault. */
  countOf(kind: string): number {
    return this.table.list().filter((fault) => fault.kind === kind).length;
  }

  #put(
    object: { kind: string; key: string; uid: string; generation: number },
    error: ProblemError,
    { sinceMs, attempts }: { sinceMs: number; attempts: number },
  ): void {
    const { kind, key, uid, generation } = object;
    const slash = key.indexOf("/"), name = `${kind}/${key}`;
    this.table.put(name, {
      name,
      kind,
      namespace: slash < 0 ? "" : key.slice(0, slash),
      objectName: key.slice(slash + 1),
      uid,
      generation,
      code: error.code,
      error: {
        kind: "REFUSED",
        error: textOf(error),
        sinceUnixS: sinceMs / 1000,
        nextRetryUnixS: 0,
        attempts,
      },
    });
  }
}

/** The refusal with its causes, as one text. */
function textOf({ message, problem: { causes = [] } }: ProblemError): string {
  const why = causes.slice(0, 8).map(({ path, detail }) => path === "" ? detail : `${path}: ${detail}`).join(
    "; ",
  );
  return why === "" || message.includes(why) ? message : `${message}: ${why}`;
}
