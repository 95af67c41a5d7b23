// JDBC with pgvector's types, as text and in binary, and COPY.

import com.pgvector.PGbit;
import com.pgvector.PGhalfvec;
import com.pgvector.PGsparsevec;
import com.pgvector.PGvector;
import java.io.StringReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import org.postgresql.PGConnection;

final class Jdbc {
    private Jdbc() {
    }

    private static Object wrap(String column, float[] numbers, String bits) throws SQLException {
        return switch (column) {
            case "embedding" -> new PGvector(numbers);
            case "half" -> new PGhalfvec(numbers);
            case "sparse" -> new PGsparsevec(numbers);
            default -> new PGbit(bits);
        };
    }

    private static String bitText(Object value) throws SQLException {
        return value instanceof PGbit bits ? bits.getValue() : value.toString();
    }

    private static void insert(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO items VALUES (?, ?, ?, ?, ?)")) {
            for (Cases.Row row : Cases.ALL.rows()) {
                statement.setInt(1, row.id());
                statement.setObject(2, wrap("embedding", row.embedding(), null));
                statement.setObject(3, wrap("half", row.half(), null));
                statement.setObject(4, wrap("sparse", row.sparse(), null));
                statement.setObject(5, wrap("bits", null, row.bits()));
                statement.addBatch();
            }
            statement.executeBatch();
        }
    }

    private static List<Cases.Row> stored(Connection connection) throws SQLException {
        List<Cases.Row> rows = new ArrayList<>();
        try (PreparedStatement statement = connection.prepareStatement("SELECT id, embedding, half, sparse, bits FROM items");
             ResultSet result = statement.executeQuery()) {
            while (result.next()) {
                rows.add(new Cases.Row(result.getInt(1), ((PGvector) result.getObject(2)).toArray(), ((PGhalfvec) result.getObject(3)).toArray(),
                    ((PGsparsevec) result.getObject(4)).toArray(), bitText(result.getObject(5))));
            }
        }
        return rows;
    }

    private static void searches(Connection connection, String how) throws SQLException {
        for (Cases.Search search : Cases.ALL.searches()) {
            boolean isBits = search.column().equals("bits");
            String distance = search.column() + " " + search.operator() + " ?::" + Cases.TYPES.get(search.column()) + (isBits ? "(35)" : "");
            List<Cases.Neighbor> found = new ArrayList<>();
            try (PreparedStatement statement = connection.prepareStatement(
                "SELECT id, " + distance + " FROM items ORDER BY " + distance + " LIMIT " + Cases.LIMIT)) {
                Object query = wrap(search.column(), isBits ? null : search.numbers(), isBits ? search.bits() : null);
                statement.setObject(1, query);
                statement.setObject(2, query);
                try (ResultSet result = statement.executeQuery()) {
                    while (result.next()) {
                        found.add(new Cases.Neighbor(result.getInt(1), result.getDouble(2)));
                    }
                }
            }
            Cases.checkSearch(search, found, how);
        }
    }

    private static Connection open(String options) throws SQLException {
        Connection connection = DriverManager.getConnection(Cases.url() + options);
        PGvector.registerTypes(connection);
        PGbit.registerType(connection);
        return connection;
    }

    private static void test() throws Exception {
        String types;
        try (Connection connection = DriverManager.getConnection(Cases.url()); Statement statement = connection.createStatement()) {
            statement.execute("CREATE EXTENSION IF NOT EXISTS vector");
            try (ResultSet result = statement.executeQuery("SELECT extversion FROM pg_extension WHERE extname = 'vector'")) {
                result.next();
                Cases.checkVersion(result.getString(1));
            }
            statement.execute("CREATE TABLE items (id int PRIMARY KEY, embedding vector(8), half halfvec(6), sparse sparsevec(20), bits bit(35))");
            for (Cases.Search search : Cases.ALL.searches()) {
                statement.execute("CREATE INDEX ON items USING hnsw (" + search.column() + " " + search.operatorClass() + ")");
            }
            try (ResultSet result = statement.executeQuery(
                "SELECT string_agg(oid::text, ',') FROM pg_type WHERE typname IN ('vector', 'sparsevec', 'bit')")) {
                result.next();
                types = result.getString(1);
            }
        }
        try (Connection connection = open("")) {
            insert(connection);
            Cases.checkRows(stored(connection), "rows, text");
            searches(connection, ", text");
        }
        try (Connection connection = open("&prepareThreshold=-1&binaryTransferEnable=" + types); Statement statement = connection.createStatement()) {
            statement.execute("DELETE FROM items");
            insert(connection);
            Cases.checkRows(stored(connection), "rows, binary");
            searches(connection, ", binary");

            statement.execute("DELETE FROM items");
            StringBuilder lines = new StringBuilder();
            for (Cases.Row row : Cases.ALL.rows()) {
                lines.append(row.id()).append('\t').append(new PGvector(row.embedding())).append('\t').append(new PGhalfvec(row.half())).append('\t')
                    .append(new PGsparsevec(row.sparse())).append('\t').append(row.bits()).append('\n');
            }
            connection.unwrap(PGConnection.class).getCopyAPI().copyIn("COPY items FROM STDIN", new StringReader(lines.toString()));
            Cases.checkRows(stored(connection), "COPY");
            try {
                statement.execute("SELECT '[1,2]'::vector <-> '[1]'::vector");
                Cases.ok(false, "error");
            } catch (SQLException e) {
                Cases.ok(e.getSQLState().equals("22000") && e.getMessage().contains("different vector dimensions 2 and 1"), "error");
            }
        }
    }

    public static void main(String[] args) {
        Cases.run(Jdbc::test);
    }
}
