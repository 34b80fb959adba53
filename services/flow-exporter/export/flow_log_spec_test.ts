import { deepEqual, equal, throws } from "node:assert/strict";
import { readFilterList, readFlowLogs, readStaticLog } from "./flow_log_spec.ts";

const NONE = {
  hubbleExportFilePath: "",
  hubbleExportFileMaxSizeMb: 10,
  hubbleExportFileMaxBackups: 5,
  hubbleExportFileCompress: false,
  hubbleExportAllowlist: "",
  hubbleExportDenylist: "",
  hubbleExportFieldmask: "",
};
const FILE = { ...NONE, hubbleExportFilePath: "/var/log/weir/events.log" };

Deno.test("readStaticLog() reads Hubble's options", () => {
  equal(readStaticLog(NONE), undefined);
  const spec = readStaticLog({
    ...FILE,
    hubbleExportAllowlist: '{"verdict":["DROPPED"]}',
    hubbleExportFieldmask: "time source.pod_name,verdict",
  })!;
  deepEqual(spec.fieldMask, ["time", "source.pod_name", "verdict"]);
  deepEqual(spec.includeFilters.map(({ verdict }) => verdict), [["DROPPED"]]);
});

Deno.test("readFilterList() takes filters as people write them", () => {
  const pods = (text: string) => readFilterList("x", text).map(({ source_pod }) => source_pod[0]);
  const [a, b] = ['{"source_pod":["kube-system/"]}', '{"source_pod":["shop/"]}'];
  for (const text of [`${a},${b}`, `${a} ${b}`, `${a}\n${b}`, `[${a}, ${b}]`]) {
    deepEqual(pods(text), ["kube-system/", "shop/"], text);
  }
  deepEqual(pods(" "), []);
});

Deno.test("readStaticLog() refuses what is wrong by the option's name", () => {
  for (
    const [options, message] of [
      [{ hubbleExportAllowlist: '{"verdict":["DROPED"]}' }, /allowlist\[0\]: .*DROPED.*DROPPED/],
      [{ hubbleExportAllowlist: '{"verdikt":["DROPPED"]}' }, /allowlist\[0\]: .*verdikt: unknown field/],
      [{ hubbleExportDenylist: "verdict=DROPPED" }, /denylist: found verdict=DROPPED, expected FlowFilters/],
      [{ hubbleExportDenylist: Array(101).fill("{}").join() }, /101 filters, expected at most 100/],
      [{ hubbleExportFieldmask: "source.pod" }, /fieldmask: .*no field source\.pod/],
      [{ hubbleExportFilePath: "stdout" }, /file-path: found stdout, expected the absolute path/],
      [{ hubbleExportFilePath: "/var/log/../../etc/passwd" }, /expected the absolute path/],
      [{ hubbleExportFilePath: "/events.log" }, /expected the absolute path of a file in a directory/],
      [{ hubbleExportFilePath: "/var/log/weir/" }, /expected the absolute path/],
      [{ hubbleExportFileMaxBackups: 1.5 }, /max-backups: found 1\.5, expected a whole number/],
    ] as const
  ) {
    throws(() => readStaticLog({ ...FILE, ...options }), { code: "FLOW_EXPORT_INVALID", message });
  }
});

const log = (more = "") => `- { name: a, filePath: /var/log/weir/a.log${more} }`;
const read = (...logs: string[]) => readFlowLogs(`flowLogs:\n${logs.join("\n")}\n`, "/var/log/weir");

Deno.test("readFlowLogs() reads Hubble's file of exports", () => {
  deepEqual(readFlowLogs("", "/var/log/weir"), []);
  const [first, second] = read(
    `- name: drops
  filePath: /var/log/weir/drops.log
  fieldMask: [source.namespace, verdict]
  includeFilters:
  - source_pod: ["default/"]
    event_type:
    - type: 1
  - destination_pod: ["frontend/webserver-975996d4c-7hhgt"]
  excludeFilters: []
  fileMaxSizeMb: 100
  fileMaxBackups: 2
  fileCompress: true
  end: "2023-10-09T23:59:59-07:00"`,
    log(", fileMaxSizeMb: 0"),
  );
  equal(first.includeFilters[0].event_type[0].type, 1);
  equal(first.endMs, Date.parse("2023-10-10T06:59:59Z"));
  deepEqual([first.fileMaxSizeMb, first.fileMaxBackups, first.fileCompress], [100, 2, true]);
  deepEqual([second.fileMaxSizeMb, second.fileMaxBackups, second.fileCompress, second.endMs], [
    10,
    5,
    false,
    undefined,
  ]);
});

Deno.test("readFlowLogs() refuses what is wrong by its place", () => {
  for (
    const [text, message] of [
      ["- name: a", /flowLogs\[0\]\.filePath: found nothing/],
      ["- filePath: /var/log/weir/a.log", /flowLogs\[0\]\.name: found nothing/],
      ["- null", /flowLogs\[0\]: found null, expected a mapping/],
      [log(", fileSize: 3"), /fileSize.* expected one of name, filePath/],
      [log(", fileMaxSizeMb: -1"), /fileMaxSizeMb: found -1, expected a number from 1/],
      [log(", fileCompress: please"), /fileCompress: found please, expected true or false/],
      [log(", end: soon"), /end: found soon, expected a time/],
      [log(", fieldMask: verdict"), /fieldMask: found verdict, expected a list/],
      [log(", includeFilters: [{ verdict: [X] }]"), /includeFilters\[0\]: .*verdict\[0\]/],
      ["- { name: a, filePath: /etc/passwd }", /expected a file below \/var\/log\/weir/],
      ["- { name: a, filePath: /var/log/weir/../a }", /expected the absolute path/],
      [`${log()}\n${log()}`, /flowLogs\[1\]\.name: found a, expected a name that no other has/],
      [`${log()}\n- { name: b, filePath: /var/log/weir/a.log }`, /a file of its own: a writes it/],
      ["- [", /the file: found .*, expected YAML/],
    ] as const
  ) {
    throws(() => read(text), { code: "FLOW_EXPORT_INVALID", message }, text);
  }
  const many = Array.from({ length: 33 }, (_, n) => `- { name: n${n}, filePath: /var/log/weir/${n} }`);
  throws(() => read(...many), /33 exports, expected at most 32/);
});
