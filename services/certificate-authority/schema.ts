/** The authority's own table beside the watched objects: its key, which all replicas of one database share. @module */
import { type Kysely, sql, type Transaction } from "kysely";
import type { Migration } from "@weir/common/state";
import type { StoredAuthority } from "./authority.ts";

/** Steps of the schema, append-only. */
export const MIGRATIONS: readonly Migration[] = [{
  name: "certificate-1",
  async up(tx) {
    await sql`create table weir_authority (
      cluster text primary key,
      certificate_pem text not null,
      key_pem text not null)`.execute(tx);
  },
}];

/** The cluster's authority; undefined when there is none. */
export async function fetchAuthority(
  executor: Kysely<unknown>,
  cluster: string,
): Promise<StoredAuthority | undefined> {
  const { rows } = await sql<{ certificate_pem: string; key_pem: string }>`
    select certificate_pem, key_pem from weir_authority where cluster = ${cluster}`.execute(executor);
  return rows.length === 0 ? undefined : { certificatePem: rows[0].certificate_pem, keyPem: rows[0].key_pem };
}

/** The cluster's authority; `make` gives it when there is none. Of replicas that make one at once, one is kept. */
export async function ensureAuthority(
  tx: Transaction<unknown>,
  cluster: string,
  make: () => Promise<StoredAuthority>,
): Promise<StoredAuthority> {
  const found = await fetchAuthority(tx, cluster);
  if (found !== undefined) return found;
  const { certificatePem, keyPem } = await make();
  await sql`insert into weir_authority (cluster, certificate_pem, key_pem)
    values (${cluster}, ${certificatePem}, ${keyPem}) on conflict (cluster) do nothing`.execute(tx);
  return (await fetchAuthority(tx, cluster))!;
}
