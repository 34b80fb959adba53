import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.config.DefaultDriverOption;
import com.datastax.oss.driver.api.core.config.DriverConfigLoader;
import com.datastax.oss.driver.api.core.config.ProgrammaticDriverConfigLoaderBuilder;
import com.datastax.oss.driver.api.core.cql.BatchStatement;
import com.datastax.oss.driver.api.core.cql.DefaultBatchType;
import com.datastax.oss.driver.api.core.cql.PreparedStatement;
import com.datastax.oss.driver.api.core.cql.ResultSet;
import com.datastax.oss.driver.api.core.cql.SimpleStatement;
import com.datastax.oss.driver.api.core.servererrors.UnauthorizedException;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/**
 * What a program does with the Java driver, through a proxy that lets it read and write shop.cart and nothing else of its own.
 * Arguments: port, compression ("none", "lz4"). Prints one JSON object: what each step gave.
 */
public class Driver {
  interface Work {
    String run();
  }

  static final List<String> found = new ArrayList<>();

  static void step(String name, Work work) {
    String result;
    try {
      result = work.run();
    } catch (UnauthorizedException error) {
      result = error.getMessage();
    } catch (RuntimeException error) {
      result = error.getClass().getSimpleName() + " " + error.getMessage();
    }
    found.add("\"" + name + "\": \"" + result.replace("\\", "\\\\").replace("\"", "\\\"") + "\"");
  }

  static String value(ResultSet rows) {
    return "" + rows.one().getInt("v");
  }

  public static void main(String[] args) {
    ProgrammaticDriverConfigLoaderBuilder config = DriverConfigLoader.programmaticBuilder()
        .withDuration(DefaultDriverOption.REQUEST_TIMEOUT, Duration.ofSeconds(60))
        .withDuration(DefaultDriverOption.CONNECTION_CONNECT_TIMEOUT, Duration.ofSeconds(60))
        .withDuration(DefaultDriverOption.CONNECTION_INIT_QUERY_TIMEOUT, Duration.ofSeconds(60))
        .withDuration(DefaultDriverOption.CONTROL_CONNECTION_TIMEOUT, Duration.ofSeconds(60));
    if (!args[1].equals("none")) config = config.withString(DefaultDriverOption.PROTOCOL_COMPRESSION, args[1]);
    try (CqlSession session = CqlSession.builder()
        .addContactPoint(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])))
        .withLocalDatacenter("datacenter1")
        .withConfigLoader(config.build())
        .withKeyspace("shop")
        .build()) {
      step("protocol", () -> session.getContext().getProtocolVersion().name());
      step("select", () -> value(session.execute("SELECT v FROM cart WHERE k = 'a'")));
      step("select denied", () -> value(session.execute("SELECT v FROM secret WHERE k = 'x'")));
      step("keyspace of the request denied", () -> value(session.execute(
          SimpleStatement.newInstance("SELECT v FROM cart WHERE k = 'x'").setKeyspace("vault"))));
      step("keyspace of the request", () -> value(session.execute(
          SimpleStatement.newInstance("SELECT v FROM cart WHERE k = 'a'").setKeyspace("shop"))));
      step("prepared", () -> {
        PreparedStatement insert = session.prepare("INSERT INTO cart (k, v) VALUES (?, ?)");
        for (int number = 0; number < 20; number++) session.execute(insert.bind("j", number));
        return value(session.execute(session.prepare("SELECT v FROM cart WHERE k = ?").bind("j")));
      });
      step("prepare denied", () -> "" + session.prepare("SELECT v FROM secret WHERE k = ?").getId());
      step("batch denied", () -> "" + session.execute(BatchStatement.newInstance(DefaultBatchType.LOGGED,
          SimpleStatement.newInstance("INSERT INTO cart (k, v) VALUES ('j', 1)"),
          SimpleStatement.newInstance("UPDATE secret SET v = 1 WHERE k = 'j'"))).wasApplied());
      step("batch", () -> "" + session.execute(BatchStatement.newInstance(DefaultBatchType.LOGGED,
          SimpleStatement.newInstance("INSERT INTO cart (k, v) VALUES ('j', 1)"),
          session.prepare("DELETE FROM cart WHERE k = ?").bind("jj"))).wasApplied());
      step("clean up", () -> "" + session.execute("DELETE FROM cart WHERE k = 'j'").wasApplied());
    }
    System.out.println("{" + String.join(", ", found) + "}");
    System.exit(0);
  }
}
