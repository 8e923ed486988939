package postgres

// SQLSTATEs that this package acts on (PostgreSQL manual, appendix A).
const (
	classConnection           = "08"    // connection_exception
	codeNotSupported          = "0A000" // feature_not_supported: "cached plan must not change result type"
	codeReadOnly              = "25006" // read_only_sql_transaction
	codeUnknownStatement      = "26000" // invalid_sql_statement_name
	codeInvalidAuthorization  = "28000" // invalid_authorization_specification
	codeInvalidPassword       = "28P01" // invalid_password
	codeNoDatabase            = "3D000" // invalid_catalog_name
	codeSerializationFailure  = "40001" // serialization_failure
	codeDeadlock              = "40P01" // deadlock_detected
	codeInsufficientPrivilege = "42501" // insufficient_privilege
	codeDuplicateStatement    = "42P05" // duplicate_prepared_statement
	codeTooManyConnections    = "53300" // too_many_connections
	codeLockNotAvailable      = "55P03" // lock_not_available
	codeAdminShutdown         = "57P01" // admin_shutdown
	codeCrashShutdown         = "57P02" // crash_shutdown
	codeCannotConnectNow      = "57P03" // cannot_connect_now
	codeDatabaseDropped       = "57P04" // database_dropped
	codeIdleSession           = "57P05" // idle_session_timeout
)
