/**
 * Whether the database has the key of the authority that this machine has believed so far. A database that was lost, or is another
 * cluster's, would get a new key: all other machines would be cut off, and what was withdrawn would be believed again.
 *
 * @module
 */
import { parseCertificate, ProblemError, publicKeyHash } from "@weir/common";
import type { Database } from "@weir/common/state";
import { fetchAuthority, MIGRATIONS } from "./schema.ts";

/**
 * @param file certificate of the authority that this machine's own is signed by; "" or not there: it believes none yet
 * @throws {ProblemError} AUTHORITY_LOST, AUTHORITY_CHANGED; DATABASE_UNAVAILABLE
 */
export async function checkKnownAuthority(database: Database, cluster: string, file: string): Promise<void> {
  const known = file === "" ? undefined : readOrNone(file);
  if (known === undefined) return;
  await database.migrate(MIGRATIONS);
  const stored = await database.query((kysely) => fetchAuthority(kysely, cluster));
  const hash = publicKeyHash(parseCertificate(known));
  const found = stored === undefined ? undefined : publicKeyHash(parseCertificate(stored.certificatePem));
  if (found === hash) return;
  const what = `Cannot be the authority of cluster "${cluster}": its database`;
  const action =
    "Put the database back from a backup and start anew. Is there none: weir cluster leave --force, then weir cluster init here, and join all other machines again";
  if (found === undefined) {
    throw new ProblemError("AUTHORITY_LOST", {
      status: 503,
      detail: `${what} is empty, and this machine is a member already`,
      expected: `the key of authority ${hash}`,
      action,
    });
  }
  throw new ProblemError("AUTHORITY_CHANGED", {
    status: 503,
    detail: `${what} has the key of another authority than this machine's certificate`,
    found,
    expected: hash,
    action,
  });
}

function readOrNone(file: string): string | undefined {
  try {
    return Deno.readTextFileSync(file);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
