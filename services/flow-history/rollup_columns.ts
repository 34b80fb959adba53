/**
 * How the rows of sums are stored: by columns, with each text once. A message for each row, as older versions wrote them, takes four times as
 * long to read, and a question about a day reads many thousands.
 *
 *     rows ─▶ words, source[], destination[], port[], ... ─▶ deflate
 *
 * @module
 */
import { type StoredRollup, StoredRollupColumns, StoredRollups } from "@weir/proto/history";
import { deflateRawSync, inflateRawSync } from "node:zlib";

const UNPACKED_BYTES_MAX = 64 << 20;

/** Columns of numbers, and of places in the words. */
const NUMBERS = [
  ...["source", "destination", "port", "flows", "connections", "dropped", "audited", "troubles"] as const,
  ...["firstUnixS", "lastUnixS"] as const,
];
const TEXTS = [
  ...[
    "sourceName",
    "destinationName",
    "protocol",
    "verdict",
    "reason",
    "policy",
    "direction",
    "node",
  ] as const,
];

/** Packs rows. */
export function packRows(rows: readonly StoredRollup[]): Uint8Array {
  const columns = StoredRollupColumns.create(), places = new Map<string, number>();
  const placeOf = (word: string) => {
    let place = places.get(word);
    if (place === undefined) {
      places.set(word, place = columns.words.length);
      columns.words.push(word);
    }
    return place;
  };
  for (const name of NUMBERS) columns[name] = rows.map((row) => row[name]);
  columns.denied = rows.map(({ denied }) => denied);
  for (const name of TEXTS) columns[name] = rows.map((row) => placeOf(row[name]));
  return deflateRawSync(StoredRollups.encode({ columns }), { level: 1 });
}

/** Unpacks them. @throws {Error} the body is damaged */
export function unpackRows(body: Uint8Array): StoredRollup[] {
  const { rows, columns } = StoredRollups.decode(
    inflateRawSync(body, { maxOutputLength: UNPACKED_BYTES_MAX }),
  );
  return columns === undefined ? rows : rowsOf(columns);
}

function rowsOf(columns: StoredRollupColumns): StoredRollup[] {
  const { words, source } = columns, count = source.length;
  if ([...NUMBERS, ...TEXTS].some((name) => columns[name].length !== count)) {
    throw new Error("its columns are not equally long");
  }
  // Older versions wrote none.
  const { denied } = columns;
  const rows = new Array<StoredRollup>(count);
  for (let n = 0; n < count; n++) {
    rows[n] = {
      source: source[n],
      destination: columns.destination[n],
      sourceName: words[columns.sourceName[n]],
      destinationName: words[columns.destinationName[n]],
      port: columns.port[n],
      protocol: words[columns.protocol[n]],
      verdict: words[columns.verdict[n]] as StoredRollup["verdict"],
      reason: words[columns.reason[n]] as StoredRollup["reason"],
      policy: words[columns.policy[n]],
      direction: words[columns.direction[n]] as StoredRollup["direction"],
      node: words[columns.node[n]],
      flows: columns.flows[n],
      connections: columns.connections[n],
      dropped: columns.dropped[n],
      audited: columns.audited[n],
      troubles: columns.troubles[n],
      denied: denied[n] ?? 0,
      firstUnixS: columns.firstUnixS[n],
      lastUnixS: columns.lastUnixS[n],
    };
  }
  return rows;
}
