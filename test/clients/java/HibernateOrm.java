// Hibernate ORM with hibernate-vector: the schema from an entity, searches in HQL.

import jakarta.persistence.Entity;
import jakarta.persistence.Id;
import jakarta.persistence.Table;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.hibernate.SessionFactory;
import org.hibernate.annotations.Array;
import org.hibernate.annotations.JdbcTypeCode;
import org.hibernate.cfg.Configuration;
import org.hibernate.type.SqlTypes;
import org.hibernate.vector.SparseFloatVector;

final class HibernateOrm {
    @Entity(name = "Item")
    @Table(name = "items")
    static class Item {
        @Id
        int id;

        @JdbcTypeCode(SqlTypes.VECTOR)
        @Array(length = 8)
        float[] embedding;

        @JdbcTypeCode(SqlTypes.VECTOR_FLOAT16)
        @Array(length = 6)
        float[] half;

        @JdbcTypeCode(SqlTypes.SPARSE_VECTOR_FLOAT32)
        @Array(length = 20)
        SparseFloatVector sparse;

        // whole bytes here: zeros are appended, which change no distance
        @JdbcTypeCode(SqlTypes.VECTOR_BINARY)
        @Array(length = 40)
        byte[] bits;
    }

    /** The taxicab distance is a function call in Hibernate's SQL, which no index serves. */
    private static final Map<String, String> FUNCTIONS = Map.of("<->", "euclidean_distance", "<#>", "negative_inner_product",
        "<=>", "cosine_distance", "<+>", "taxicab_distance", "<~>", "hamming_distance", "<%>", "jaccard_distance");

    private HibernateOrm() {
    }

    private static byte[] bytes(String bits) {
        byte[] result = new byte[(bits.length() + 7) / 8];
        for (int i = 0; i < bits.length(); i++) {
            if (bits.charAt(i) == '1') {
                result[i / 8] |= (byte) (0x80 >> (i % 8));
            }
        }
        return result;
    }

    private static String text(byte[] bytes, int length) {
        StringBuilder result = new StringBuilder();
        for (int i = 0; i < length; i++) {
            result.append((char) ('0' + (bytes[i / 8] >> (7 - i % 8) & 1)));
        }
        return result.toString();
    }

    private static void searches(SessionFactory factory) {
        for (Cases.Search search : Cases.ALL.searches()) {
            Object query = switch (search.column()) {
                case "bits" -> bytes(search.bits());
                case "sparse" -> new SparseFloatVector(search.numbers());
                default -> search.numbers();
            };
            String distance = FUNCTIONS.get(search.operator()) + "(i." + search.column() + ", :query)";
            List<Cases.Neighbor> found = new ArrayList<>();
            factory.inSession(session -> session.createQuery("select i.id, " + distance + " from Item i order by " + distance, Object[].class)
                .setParameter("query", query).setMaxResults(Cases.LIMIT).list()
                .forEach(record -> found.add(new Cases.Neighbor((Integer) record[0], ((Number) record[1]).doubleValue()))));
            Cases.checkSearch(search, found, "");
        }
    }

    private static void test() throws Exception {
        try (Connection connection = DriverManager.getConnection(Cases.url()); Statement statement = connection.createStatement()) {
            statement.execute("CREATE EXTENSION IF NOT EXISTS vector");
            Configuration configuration = new Configuration().addAnnotatedClass(Item.class)
                .setProperty("hibernate.connection.url", Cases.url()).setProperty("hibernate.hbm2ddl.auto", "create");
            try (SessionFactory factory = configuration.buildSessionFactory()) {
                for (Cases.Search search : Cases.ALL.searches()) {
                    if (!search.operator().equals("<+>")) {
                        statement.execute("CREATE INDEX ON items USING hnsw (" + search.column() + " " + search.operatorClass() + ")");
                    }
                }
                factory.inTransaction(session -> {
                    for (Cases.Row row : Cases.ALL.rows()) {
                        Item item = new Item();
                        item.id = row.id();
                        item.embedding = row.embedding();
                        item.half = row.half();
                        item.sparse = new SparseFloatVector(row.sparse());
                        item.bits = bytes(row.bits());
                        session.persist(item);
                    }
                });
                List<Cases.Row> stored = new ArrayList<>();
                factory.inSession(session -> session.createQuery("from Item", Item.class).list().forEach(item -> stored.add(
                    new Cases.Row(item.id, item.embedding, item.half, item.sparse.toDenseVector(), text(item.bits, 35)))));
                Cases.checkRows(stored, "rows");
                searches(factory);
            }
        }
    }

    public static void main(String[] args) {
        Cases.run(HibernateOrm::test);
    }
}
