.PHONY: services
services: ## Start Kafka, PostgreSQL, MySQL, MariaDB and Redis; write .run/env
	@deploy/services/services.sh up

.PHONY: services-stop
services-stop: ## Stop what `make services` started
	@deploy/services/services.sh stop
